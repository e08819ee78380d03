// The authorization server `oidc-provider`, on a loopback port.
//
// What it keeps is in its memory, so it forgets all of it when it ends. Its keys can be
// changed from outside: a POST to /change-keys makes it sign with new ones, and goes on
// publishing the old ones if asked to with ?keep.
import { generateKeyPair, randomUUID } from 'node:crypto'
import { createServer } from 'node:http'
import { promisify } from 'node:util'
import { Provider } from 'oidc-provider'

const { port, clients, resources } = JSON.parse(process.argv[2])

/** One key for each of the algorithms that resources may ask for. */
async function makeKeys() {
  return [
    await makeKey('RS256', 'rsa', { modulusLength: 2048 }),
    await makeKey('ES256', 'ec', { namedCurve: 'P-256' }),
  ]
}

async function makeKey(alg, type, options) {
  const { privateKey } = await promisify(generateKeyPair)(type, options)
  return { ...privateKey.export({ format: 'jwk' }), alg, use: 'sig', kid: randomUUID() }
}

/** All that is made here share one memory. */
function makeProvider(issuer, keys) {
  return new Provider(issuer, {
    clients,
    clientAuthMethods: [
      'client_secret_basic', 'client_secret_post', 'private_key_jwt',
    ],
    jwks: { keys },
    features: {
      clientCredentials: { enabled: true },
      introspection: { enabled: true },
      jwtIntrospection: { enabled: true },
      revocation: { enabled: true },
      resourceIndicators: {
        enabled: true,
        getResourceServerInfo: (context, resource) => resources[resource],
      },
    },
  })
}

let provider
let keys = await makeKeys()

async function changeKeys(issuer, keep) {
  const made = await makeKeys()
  keys = keep ? [...made, ...keys] : made
  provider = makeProvider(issuer, keys)
}

const server = createServer(async (request, response) => {
  if (!request.url.startsWith('/change-keys')) {
    provider.callback()(request, response)
    return
  }
  await changeKeys(provider.issuer, request.url.endsWith('?keep'))
  response.writeHead(204).end()
})
server.listen(port, '127.0.0.1', () => {
  const issuer = `http://127.0.0.1:${server.address().port}`
  provider = makeProvider(issuer, keys)
  console.log(`issuer: ${issuer}`)
})
