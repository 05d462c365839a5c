"""What is asked in GraphQL: one document each."""

_ERRORS = """errors {
      code message path
      ... on RateLimited { retryAfterMs }
      ... on ModelUnavailable { retryMaybeAfterMs: retryAfterMs }
    }"""

CREATE_UPLOAD = f"""mutation CreateUpload($input: CreateUploadInput!) {{
  createUpload(input: $input) {{
    upload {{ id url status receivedBytes }}
    {_ERRORS}
  }}
}}"""

CREATE_VERSION = f"""mutation CreateModelVersion($input: CreateModelVersionInput!) {{
  createModelVersion(input: $input) {{
    modelVersion {{ id number }}
    {_ERRORS}
  }}
}}"""

RELEASE = f"""mutation Release($input: ReleaseModelVersionInput!) {{
  releaseModelVersion(input: $input) {{
    modelVersion {{ number status }}
    {_ERRORS}
  }}
}}"""

CANARY = f"""mutation Canary($input: SetCanaryInput!) {{
  setCanary(input: $input) {{
    model {{ canaryVersion {{ id }} }}
    {_ERRORS}
  }}
}}"""

PROMOTE = f"""mutation Promote($input: PromoteCanaryInput!) {{
  promoteCanary(input: $input) {{
    model {{ id }}
    {_ERRORS}
  }}
}}"""

ROLLBACK = f"""mutation Rollback($input: RollbackModelInput!) {{
  rollbackModel(input: $input) {{
    model {{ liveVersion {{ number }} }}
    {_ERRORS}
  }}
}}"""

DESCRIBE = f"""mutation Describe($input: DescribeModelVersionInput!) {{
  describeModelVersion(input: $input) {{
    modelVersion {{ number }}
    {_ERRORS}
  }}
}}"""

CONFIGURE = f"""mutation Configure($input: ConfigureModelVersionInput!) {{
  configureModelVersion(input: $input) {{
    modelVersion {{ instanceCount maxBatchSize responseCache }}
    {_ERRORS}
  }}
}}"""

VERSION_IDS = """query VersionIds($ref: String!, $after: String) {
  model(ref: $ref) {
    versions(first: 100, after: $after) {
      edges { node { id number } }
      pageInfo { hasNextPage endCursor }
    }
  }
}"""

CHECK = """query Check($id: ID!) {
  node(id: $id) {
    ... on ModelVersion {
      status
      check { steps { name status detail seconds } reason advice facts }
    }
  }
}"""

LIVE = """query Live($ref: String!) {
  model(ref: $ref) { liveVersion { id } canaryVersion { id } releasingVersion { id } }
}"""

STATUS = """query Status($ref: String!) {
  model(ref: $ref) {
    ref displayName
    liveVersion { number }
    canaryVersion { number } canaryPercent
    shadowVersion { number } shadowPercent
    versions(first: 10) { edges { node { number status format sizeBytes createdAt } } }
  }
}"""
