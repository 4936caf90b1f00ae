package transport

import (
	"encoding/json"

	pb "github.com/session-authority/session-authority/clients/go/sessionauthorityv1"
)

// methods returns all methods but the watch: its reader resumes it, from its cursor.
func methods() []map[string]string {
	var names []map[string]string
	for _, method := range pb.SessionAuthorityService_ServiceDesc.Methods {
		names = append(names, map[string]string{
			"service": pb.SessionAuthorityService_ServiceDesc.ServiceName,
			"method":  method.MethodName,
		})
	}
	return names
}

// serviceConfig says how a call that was refused or lost is tried again. That is safe for every
// method: IssueDevice always has a request ID, a token that was renewed twice is still one renewal,
// and the same claims once more change nothing.
func serviceConfig() string {
	config := map[string]any{
		// Calls go to all addresses in turn.
		"loadBalancingConfig": []any{map[string]any{"round_robin": map[string]any{}}},
		"methodConfig": []any{map[string]any{
			"name": methods(),
			"retryPolicy": map[string]any{
				"maxAttempts":          3,
				"initialBackoff":       "0.02s",
				"maxBackoff":           "0.2s",
				"backoffMultiplier":    2,
				"retryableStatusCodes": []string{"UNAVAILABLE"},
			},
		}},
		// After ten failures without successes there are no retries: retries must not keep a service
		// down.
		"retryThrottling": map[string]any{"maxTokens": 20, "tokenRatio": 0.1},
	}
	text, err := json.Marshal(config)
	if err != nil {
		panic(err) // a literal that JSON can't hold is a fault of this file
	}
	return string(text)
}
