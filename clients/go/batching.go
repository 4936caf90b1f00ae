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
	// The service accepts 500 requests, in a message of 4 MiB.
	maxBatchItems = 500
	maxBatchBytes = 3 << 20
	// A good request is smaller than this. The service refuses a single validation of more than 64
	// KiB. The client sends a request over this limit alone, so that its refusal fails no other
	// caller.
	maxItemBytes = 8 << 10
	// When a caller has waited for this time, or for this part of its timeout, it does not wait any
	// longer for the call that is under way. A batch is sent while that call goes on.
	maxBatchWait     = 50 * time.Millisecond
	maxBatchWaitPart = 4
)

// batchQueue sends the validations of all goroutines, alone or in batches. If no validation is
// under way, a new validation is sent at once. Validations that arrive in the meantime are sent
// together: when the call under way has ended, or when one of their callers has waited for its
// longest time.
//
// No caller waits for a batch to fill: at low load every validation is a call of its own, as it
// would be without batching. Each caller's deadline, cancellation and errors stay its own.
type batchQueue struct {
	client *Client

	mu       sync.Mutex
	queue    []*waiter
	underWay int
	sending  bool // a batch waits for a slot
	// One timer serves the whole queue. A timer for each caller took an eighth of the time that the
	// client spends on a validation.
	patience *time.Timer
	patient  time.Time // until then, all in the queue wait for the call under way
}

// waiter is a caller in the queue, or in a batch.
type waiter struct {
	request  *pb.ValidateSessionRequest
	size     int
	deadline time.Time
	queued   bool // the caller is in no batch yet; the queue's mutex guards queued and gone
	gone     bool // the caller gave up
	settled  chan struct{}
	answer   Validation // written before settled is closed
	err      error
}

func (w *waiter) settle(answer Validation, err error) {
	w.answer, w.err = answer, err
	close(w.settled)
}

// validate returns the service's answer. own is the context of the call, and ctx is the context of
// its caller.
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

// append adds a caller to the queue. It sets the timer so that a batch is sent at the latest when
// the caller has waited for its longest time. The caller of append holds the mutex.
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

// hurry sends a batch if a caller in the queue has waited for its longest time.
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
	case <-w.settled: // the answer came at this very moment
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

// ended notes that a call has ended, and sends the next batch.
func (q *batchQueue) ended() {
	q.mu.Lock()
	q.underWay--
	waits := q.underWay == 0 && len(q.queue) > 0
	q.mu.Unlock()
	if waits {
		q.send()
	}
}

// send lets a batch wait for its slot. All callers that are in the queue when the slot is free go
// into the batch.
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
	// The callers that have just got an answer often ask again. Let them run first, so that they
	// join the next batch.
	runtime.Gosched()
	q.ended()
}

// takeBatch removes the next batch from the queue, in the order of arrival. A caller that has given
// up is removed, too, and is not in the batch.
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
// of a batch is the latest deadline of its callers. The other callers stop waiting at their own
// deadlines.
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
