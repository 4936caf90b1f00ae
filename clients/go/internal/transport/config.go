package transport

// serviceConfig makes calls go to all addresses in turn.
//
// It has no retry policy: the client itself makes a call again. gRPC's own retries now and then
// lose the status of the last attempt, if a server answers before gRPC has written the request.
// Then the caller gets UNKNOWN, "max retries exhausted: failed after 3 attempts: EOF" (seen with
// gRPC 1.84).
const serviceConfig = `{"loadBalancingConfig": [{"round_robin": {}}]}`
