package transport

// serviceConfig makes gRPC send the calls to all addresses of the service in turn.
//
// serviceConfig has no retry policy, because the client itself retries calls. gRPC's own retries
// sometimes lose the status of the last attempt. This happens if a server answers before gRPC has
// written the request. Instead of the status, the caller gets UNKNOWN, "max retries exhausted:
// failed after 3 attempts: EOF" (seen with gRPC 1.84).
const serviceConfig = `{"loadBalancingConfig": [{"round_robin": {}}]}`
