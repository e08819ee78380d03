// What the MCP TypeScript SDK learns of a server before it asks for a token.
const { sdk, url } = JSON.parse(process.argv[2])
const {
  discoverAuthorizationServerMetadata,
  discoverOAuthProtectedResourceMetadata,
  extractWWWAuthenticateParams,
  selectResourceURL,
} = await import(sdk)

const response = await fetch(url, { redirect: 'manual' })
const challenge = extractWWWAuthenticateParams(response)
const named = await discoverOAuthProtectedResourceMetadata(url, {
  resourceMetadataUrl: challenge.resourceMetadataUrl,
})
// A client that looks at no challenge guesses the URL.
const guessed = await discoverOAuthProtectedResourceMetadata(url)
const resource = await selectResourceURL(url, {}, named)
const server = await discoverAuthorizationServerMetadata(
  named.authorization_servers[0],
)

console.log(JSON.stringify({
  status: response.status, challenge, named, guessed, resource, server,
}))
