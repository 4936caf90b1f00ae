package transport

// serviceConfig has calls go to all addresses in turn.
//
// It has no policy of retries: the client makes a call again by itself. gRPC's own retries lose the
// status of the last attempt now and then, if a server answers before gRPC has written the request:
// the caller gets UNKNOWN, "max retries exhausted: failed after 3 attempts: EOF" (seen with 1.84).
const serviceConfig = `{"loadBalancingConfig": [{"round_robin": {}}]}`
