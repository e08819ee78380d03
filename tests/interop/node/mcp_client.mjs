// A client of an MCP server, with a user who says yes at once.
const { auth, client, transport, url } = JSON.parse(process.argv[2])
const { UnauthorizedError } = await import(auth)
const { Client } = await import(client)
const { StreamableHTTPClientTransport } = await import(transport)

/** What a program keeps for the SDK, and a browser that follows one redirect. */
class Provider {
  redirectUrl = 'http://127.0.0.1/callback'
  clientMetadata = {
    client_name: 'assistant',
    redirect_uris: [this.redirectUrl],
    token_endpoint_auth_method: 'none',
  }
  clientInformation() { return this.client }
  saveClientInformation(client) { this.client = client }
  tokens() { return this.kept }
  saveTokens(tokens) { this.kept = tokens }
  codeVerifier() { return this.verifier }
  saveCodeVerifier(verifier) { this.verifier = verifier }
  async redirectToAuthorization(url) {
    const response = await fetch(url, { redirect: 'manual' })
    this.returned = new URL(response.headers.get('location')).searchParams
  }
}

const authProvider = new Provider()
const open = () => new StreamableHTTPClientTransport(new URL(url), { authProvider })

/** Run a step; if it needs the user, finish that and run it again. */
async function withConsent(step) {
  let connection = open()
  try {
    return await step(connection)
  } catch (error) {
    if (!(error instanceof UnauthorizedError)) throw error
    await connection.finishAuth(authProvider.returned.get('code'))
    return await step(open())
  }
}

const session = await withConsent(async (connection) => {
  const session = new Client({ name: 'assistant', version: '1' })
  await session.connect(connection)
  return session
})
const { tools } = await session.listTools()
const answer = await session.callTool({ name: 'who_am_i', arguments: {} })
await session.close()

console.log(JSON.stringify({
  tools: tools.map((tool) => tool.name),
  told: JSON.parse(answer.content[0].text),
}))
