package sessionauthority

import (
	"context"
	"runtime"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	pb "github.com/session-authority/session-authority/clients/go/sessionauthorityv1"
)

const (
	// The service accepts at most 500 requests, and at most 4 MiB, in one BatchValidateSessions.
	maxBatchItems = 500
	maxBatchBytes = 3 << 20
	// A valid request for a validation is smaller than maxItemBytes. The client sends a larger
	// request in a call of its own. If the service refuses this call, no other caller's validation
	// fails. The service refuses such a call if the request has more than 64 KiB.
	maxItemBytes = 8 << 10
	// A caller in the queue waits for the call that is under way. This wait lasts at most
	// maxBatchWait, and at most a quarter of the caller's timeout (1/maxBatchWaitPart). After the
	// wait a batch is sent, even if the call is still under way.
	maxBatchWait     = 50 * time.Millisecond
	maxBatchWaitPart = 4
)

// batchQueue sends the validations of all goroutines that share a client. If no validation is under
// way, a new validation is sent at once, in a call of its own. Validations that arrive while a call
// is under way wait in the queue, and are sent together in a batch. The batch is sent when the call
// has ended, or when a caller in the queue has waited for as long as maxBatchWait and
// maxBatchWaitPart allow.
//
// No caller waits for a batch to fill. At low load, every validation is a call of its own, as
// without batching. Each caller keeps its own deadline, cancellation and errors.
type batchQueue struct {
	client *Client

	mu       sync.Mutex
	queue    []*waiter
	underWay int
	sending  bool // true while a batch waits for a slot
	// The whole queue has one timer. When each caller had its own timer, the timers took an eighth
	// of the time that the client spent on a validation.
	patience *time.Timer
	patient  time.Time // the time at which the timer patience fires
}

// waiter is a caller whose validation is in the queue or in a batch.
type waiter struct {
	request  *pb.ValidateSessionRequest
	size     int
	deadline time.Time
	queued   bool // true until the caller is in a batch; the queue's mutex guards queued and gone
	gone     bool // true if the caller has stopped waiting
	settled  chan struct{}
	answer   Validation // answer and err are written before settled is closed
	err      error
}

func (w *waiter) settle(answer Validation, err error) {
	w.answer, w.err = answer, err
	close(w.settled)
}

// validate returns the service's answer to a validation. ctx is the caller's context. own is the
// context of the call: it is derived from ctx, and has the call's deadline.
func (q *batchQueue) validate(
	own, ctx context.Context, request *pb.ValidateSessionRequest,
) (Validation, error) {
	size := proto.Size(request)
	if !q.client.settings.batching || size > maxItemBytes {
		return q.callAlone(own, ctx, request)
	}
	if q.client.closed() {
		return Validation{}, clientClosed()
	}
	q.mu.Lock()
	if q.underWay == 0 && len(q.queue) == 0 {
		q.underWay++
		q.mu.Unlock()
		defer q.ended()
		return q.callAlone(own, ctx, request)
	}
	deadline, _ := own.Deadline()
	w := &waiter{
		request: request, size: size, deadline: deadline, queued: true, settled: make(chan struct{}),
	}
	q.append(w)
	q.mu.Unlock()
	return q.wait(own, ctx, w)
}

func (q *batchQueue) callAlone(
	own, ctx context.Context, request *pb.ValidateSessionRequest,
) (Validation, error) {
	c := q.client
	if c.closed() {
		return Validation{}, clientClosed()
	}
	if err := c.acquire(own, ctx); err != nil {
		return Validation{}, err
	}
	defer c.slots.Release(1)
	response, err := callInSlot(own, ctx, c, c.service.ValidateSession, request)
	if err != nil {
		return Validation{}, err
	}
	return validationOf(response), nil
}

func (q *batchQueue) wait(own, ctx context.Context, w *waiter) (Validation, error) {
	select {
	case <-w.settled:
		return w.answer, w.err
	case <-own.Done():
		return q.giveUp(own, ctx, w)
	}
}

// append adds w to the queue. It sets the timer so that a batch is sent at the latest when w has
// waited for as long as maxBatchWait and maxBatchWaitPart allow. The mutex must be locked when
// append is called.
func (q *batchQueue) append(w *waiter) {
	now := time.Now()
	patience := min(maxBatchWait, w.deadline.Sub(now)/maxBatchWaitPart)
	isFirst := len(q.queue) == 0
	q.queue = append(q.queue, w)
	if until := now.Add(patience); isFirst || until.Before(q.patient) {
		q.patient = until
		if q.patience == nil {
			q.patience = time.AfterFunc(patience, q.hurry)
		} else {
			q.patience.Reset(patience)
		}
	}
}

// hurry runs when the timer fires. It sends a batch if a caller in the queue has waited for as long
// as maxBatchWait and maxBatchWaitPart allow.
func (q *batchQueue) hurry() {
	q.mu.Lock()
	isDue := len(q.queue) > 0 && !time.Now().Before(q.patient)
	q.mu.Unlock()
	if isDue {
		q.send()
	}
}

func (q *batchQueue) giveUp(own, ctx context.Context, w *waiter) (Validation, error) {
	q.mu.Lock()
	w.gone = true
	withoutSlot := q.sending && w.queued
	q.mu.Unlock()
	select {
	case <-w.settled: // the answer came at the moment when own ended
		return w.answer, w.err
	default:
	}
	switch {
	case q.client.closed():
		return Validation{}, clientClosed()
	case ctx.Err() != nil:
		return Validation{}, endedContext(ctx, tooLate().Message)
	case withoutSlot:
		return Validation{}, endedContext(own, noSlot)
	default:
		return Validation{}, tooLate()
	}
}

// ended notes that a call has ended. If no other call is under way, it sends the callers in the
// queue as the next batch.
func (q *batchQueue) ended() {
	q.mu.Lock()
	q.underWay--
	waits := q.underWay == 0 && len(q.queue) > 0
	q.mu.Unlock()
	if waits {
		q.send()
	}
}

// send starts a goroutine that waits for a free slot and then sends a batch. While such a goroutine
// waits already, send does nothing. The batch takes the callers that are in the queue when the slot
// is free, up to maxBatchItems and maxBatchBytes.
func (q *batchQueue) send() {
	q.mu.Lock()
	starts := !q.sending && len(q.queue) > 0
	q.sending = q.sending || starts
	q.mu.Unlock()
	if !starts {
		return
	}
	if q.client.enter() {
		go func() {
			defer q.client.leave()
			q.sendInSlot()
		}()
		return
	}
	q.failQueue()
}

func (q *batchQueue) failQueue() {
	q.mu.Lock()
	waiters := q.queue
	q.queue, q.sending = nil, false
	q.mu.Unlock()
	for _, w := range waiters {
		w.settle(Validation{}, clientClosed())
	}
}

func (q *batchQueue) sendInSlot() {
	c := q.client
	if c.slots.Acquire(c.ending, 1) != nil {
		q.failQueue()
		return
	}
	q.mu.Lock()
	q.sending = false
	var batch []*waiter
	batch, q.queue = takeBatch(q.queue)
	more := len(q.queue) > 0
	if len(batch) > 0 {
		q.underWay++
	}
	q.mu.Unlock()
	if more {
		q.send()
	}
	if len(batch) == 0 {
		c.slots.Release(1)
		return
	}
	q.callFor(batch)
	c.slots.Release(1)
	// A caller that has just got an answer often validates again at once. Gosched lets such callers
	// run first, so that their new validations join the next batch.
	runtime.Gosched()
	q.ended()
}

// takeBatch takes the next batch from the front of the queue. It returns the batch and the rest of
// the queue. takeBatch skips callers that have stopped waiting. The skipped callers are neither in
// the batch nor in the rest.
func takeBatch(queue []*waiter) (batch, rest []*waiter) {
	held := 0
	for i, w := range queue {
		if w.gone {
			continue
		}
		if len(batch) == maxBatchItems || held+w.size > maxBatchBytes {
			return batch, append([]*waiter(nil), queue[i:]...)
		}
		w.queued = false
		batch = append(batch, w)
		held += w.size
	}
	return batch, nil
}

// callFor makes the call of a batch, and gives each caller its own part of the answer. The deadline
// of the call is the latest deadline of the callers in the batch. A caller with an earlier deadline
// stops waiting at its own deadline.
func (q *batchQueue) callFor(batch []*waiter) {
	c := q.client
	deadline := batch[0].deadline
	for _, w := range batch {
		if w.deadline.After(deadline) {
			deadline = w.deadline
		}
	}
	ctx, cancel := context.WithDeadline(c.ending, deadline)
	defer cancel()
	if len(batch) == 1 {
		response, err := callInSlot(ctx, ctx, c, c.service.ValidateSession, batch[0].request)
		if err != nil {
			batch[0].settle(Validation{}, err)
			return
		}
		batch[0].settle(validationOf(response), nil)
		return
	}
	request := &pb.BatchValidateSessionsRequest{
		Requests: make([]*pb.ValidateSessionRequest, len(batch)),
	}
	for i, w := range batch {
		request.Requests[i] = w.request
	}
	response, err := callInSlot(ctx, ctx, c, c.service.BatchValidateSessions, request)
	if err == nil && len(response.GetResults()) != len(batch) {
		err = wrongNumberOfAnswers()
	}
	for i, w := range batch {
		switch {
		case err != nil:
			w.settle(Validation{}, copyForCaller(err))
		case response.GetResults()[i].GetResponse() != nil:
			w.settle(validationOf(response.GetResults()[i].GetResponse()), nil)
		default:
			w.settle(Validation{}, errorOfItem(response.GetResults()[i].GetError()))
		}
	}
}
