// What an application does that is built on oauth4webapi, and what it learns.
import * as oauth from 'oauth4webapi'

const { api, resource, token } = JSON.parse(process.argv[2])
const onLoopback = { [oauth.allowInsecureRequests]: true }

/** Ask the API, and give back its status with what the library made of a refusal. */
async function ask(method, token) {
  const headers = new Headers({ 'content-type': 'application/json' })
  const body = method === 'POST' ? '{"text": "from oauth4webapi"}' : undefined
  try {
    const response = await oauth.protectedResourceRequest(
      token, method, new URL(api), headers, body, onLoopback,
    )
    return { status: response.status, body: await response.json() }
  } catch (error) {
    if (!(error instanceof oauth.WWWAuthenticateChallengeError)) throw error
    return { status: error.status, challenges: error.cause }
  }
}

async function discoverServer(issuer) {
  const options = { ...onLoopback, algorithm: 'oauth2' }
  const response = await oauth.discoveryRequest(issuer, options)
  return oauth.processDiscoveryResponse(issuer, response)
}

const identifier = new URL(resource)
const refused = await ask('GET', 'not-a-token')
const metadata = await oauth.processResourceDiscoveryResponse(
  identifier,
  await oauth.resourceDiscoveryRequest(identifier, onLoopback),
)
const named = await oauth.processResourceDiscoveryResponse(
  identifier,
  await fetch(refused.challenges[0].parameters.resource_metadata, {
    redirect: 'manual',
  }),
)
const server = await discoverServer(new URL(metadata.authorization_servers[0]))
const read = await ask('GET', token)
const written = await ask('POST', token)

console.log(JSON.stringify({ refused, metadata, named, server, read, written }))
