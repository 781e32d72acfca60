// A client of NATS JetStream on nats.go: publishes without waiting for each ack, and walks every message on the
// way out.
//
//	client produce URL STREAM MANNER PRODUCERS VALUE_BYTES BYTES SECONDS
//	client replay  URL STREAM RECORDS
//	client latency URL STREAM VALUE_BYTES SECONDS PER_SECOND     (0: one at a time)
//
// MANNER is `async` (an ack for each message) or `fast` (fast-ingest batches, an ack for many). Prints "records bytes
// seconds", or with `latency` the nanoseconds of each append, a line each.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"
)

const (
	// Messages without an ack, for each producer.
	maxPending = 4096
	// With fast ingest: an ack for so many messages at first, and so many acks outstanding.
	fastFlow = 1000
	fastAcks = 4
	// Messages that are asked for at a time when reading.
	pulledMessages = 10_000
	silenceMax     = 30 * time.Second
	watched        = 70 * time.Microsecond
)

func main() {
	arguments := os.Args[1:]
	var err error
	switch {
	case len(arguments) == 8 && arguments[0] == "produce":
		err = produce(arguments[1:])
	case len(arguments) == 4 && arguments[0] == "replay":
		err = replay(arguments[1:])
	case len(arguments) == 6 && arguments[0] == "latency":
		err = latency(arguments[1:])
	default:
		err = errors.New("see the beginning of main.go for the arguments")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func number(text string) int64 {
	parsed, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	return parsed
}

func duration(text string) time.Duration {
	seconds, err := strconv.ParseFloat(text, 64)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	return time.Duration(seconds * float64(time.Second))
}

// noise is bytes without a pattern, the same every time.
func noise(bytes int64) []byte {
	state := uint64(0x9e3779b97f4a7c15)
	value := make([]byte, bytes)
	for i := range value {
		state ^= state << 13
		state ^= state >> 7
		state ^= state << 17
		value[i] = byte(state)
	}
	return value
}

// connect opens a connection of its own.
func connect(url string) (*nats.Conn, jetstream.JetStream, error) {
	connection, err := nats.Connect(url)
	if err != nil {
		return nil, nil, err
	}
	// Twice as many: a producer waits for acks itself, and never runs into this.
	js, err := jetstream.New(connection, jetstream.WithPublishAsyncMaxPending(2*maxPending))
	return connection, js, err
}

// create makes a stream on disk that takes the messages of one subject, which has its name.
func create(js jetstream.JetStream, name string) error {
	_, err := js.CreateStream(context.Background(), jetstream.StreamConfig{
		Name:              name,
		Subjects:          []string{name},
		Storage:           jetstream.FileStorage,
		AllowBatchPublish: true,
	})
	return err
}

func streamName(name string, partition int64) string {
	if partition == 0 {
		return name
	}
	return fmt.Sprintf("%s-%d", name, partition)
}

func produce(arguments []string) error {
	url, name, manner := arguments[0], arguments[1], arguments[2]
	producers, valueBytes := number(arguments[3]), number(arguments[4])
	most, limit := number(arguments[5])/producers/valueBytes, duration(arguments[6])
	publish := publishAsync
	if manner == "fast" {
		publish = publishFast
	}
	var streams []jetstream.JetStream
	for partition := range producers {
		connection, js, err := connect(url)
		if err != nil {
			return err
		}
		defer connection.Close()
		if err := create(js, streamName(name, partition)); err != nil {
			return err
		}
		streams = append(streams, js)
	}
	counts, failures := make([]int64, producers), make([]error, producers)
	var all sync.WaitGroup
	begun := time.Now()
	for partition, js := range streams {
		all.Go(func() {
			subject := streamName(name, int64(partition))
			counts[partition], failures[partition] = publish(js, subject, noise(valueBytes), most, begun.Add(limit))
		})
	}
	all.Wait()
	seconds := time.Since(begun).Seconds()
	records := int64(0)
	for _, count := range counts {
		records += count
	}
	fmt.Printf("%d %d %.6f\n", records, records*valueBytes, seconds)
	return errors.Join(failures...)
}

func publishAsync(js jetstream.JetStream, subject string, value []byte, most int64, end time.Time) (int64, error) {
	var acks []jetstream.PubAckFuture
	records := int64(0)
	for records < most && (records%256 != 0 || time.Now().Before(end)) {
		ack, err := js.PublishAsync(subject, value)
		if err != nil {
			return records, err
		}
		records++
		acks = append(acks, ack)
		if len(acks) == maxPending {
			// A fraction, so that there is always something under way.
			if err := check(acks[:maxPending/4]); err != nil {
				return records, err
			}
			acks = append(acks[:0], acks[maxPending/4:]...)
		}
	}
	return records, check(acks)
}

func check(acks []jetstream.PubAckFuture) error {
	for _, ack := range acks {
		select {
		case <-ack.Ok():
		case err := <-ack.Err():
			return err
		}
	}
	return nil
}

func publishFast(js jetstream.JetStream, subject string, value []byte, most int64, end time.Time) (int64, error) {
	flow := jetstreamext.FastPublishFlowControl{Flow: fastFlow, MaxOutstandingAcks: fastAcks, AckTimeout: silenceMax}
	publisher, err := jetstreamext.NewFastPublisher(js, flow)
	if err != nil {
		return 0, err
	}
	records := int64(0)
	for records < most-1 && (records%256 != 0 || time.Now().Before(end)) {
		if _, err := publisher.Add(subject, value); err != nil {
			return records, err
		}
		records++
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	ack, err := publisher.Commit(ctx, subject, value)
	if err != nil {
		return records, err
	}
	records++
	if ack.BatchSize != uint64(records) {
		return records, fmt.Errorf("%d messages were sent and %d are in the batch", records, ack.BatchSize)
	}
	return records, nil
}

func replay(arguments []string) error {
	connection, js, err := connect(arguments[0])
	if err != nil {
		return err
	}
	defer connection.Close()
	wanted := number(arguments[2])
	begun := time.Now()
	consumer, err := js.OrderedConsumer(context.Background(), arguments[1], jetstream.OrderedConsumerConfig{})
	if err != nil {
		return err
	}
	records, bytes := int64(0), int64(0)
	done := make(chan time.Time, 1)
	beat := make(chan struct{}, 1)
	consuming, err := consumer.Consume(func(message jetstream.Msg) {
		records++
		bytes += int64(len(message.Data()))
		if records == wanted {
			done <- time.Now()
		}
		if records%1000 == 0 {
			select {
			case beat <- struct{}{}:
			default:
			}
		}
	}, jetstream.PullMaxMessages(pulledMessages))
	if err != nil {
		return err
	}
	defer consuming.Stop()
	for {
		select {
		case end := <-done:
			fmt.Printf("%d %d %.6f\n", records, bytes, end.Sub(begun).Seconds())
			return nil
		case <-beat:
		case <-time.After(silenceMax):
			return errors.New("no more messages come")
		}
	}
}

func latency(arguments []string) error {
	connection, js, err := connect(arguments[0])
	if err != nil {
		return err
	}
	defer connection.Close()
	subject, value, limit := arguments[1], noise(number(arguments[2])), duration(arguments[3])
	if err := create(js, subject); err != nil {
		return err
	}
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	rate := number(arguments[4])
	if rate == 0 {
		for begun := time.Now(); time.Since(begun) < limit; {
			sent := time.Now()
			if _, err := js.Publish(context.Background(), subject, value); err != nil {
				return err
			}
			fmt.Fprintln(out, time.Since(sent).Nanoseconds())
		}
		return nil
	}
	return paced(js, out, subject, value, limit, rate)
}

func paced(js jetstream.JetStream, out *bufio.Writer, subject string, value []byte, limit time.Duration, rate int64) error {
	type pending struct {
		due time.Time
		ack jetstream.PubAckFuture
	}
	count := int64(limit.Seconds() * float64(rate))
	sent := make(chan pending, count)
	failed := make(chan error, 1)
	go func() {
		defer close(sent)
		begun := time.Now()
		for number := range count {
			due := begun.Add(time.Duration(number) * time.Second / time.Duration(rate))
			waitUntil(due)
			ack, err := js.PublishAsync(subject, value, jetstream.WithStallWait(silenceMax))
			if err != nil {
				failed <- err
				return
			}
			sent <- pending{due, ack}
		}
	}()
	for one := range sent {
		select {
		case <-one.ack.Ok():
			fmt.Fprintln(out, time.Since(one.due).Nanoseconds())
		case err := <-one.ack.Err():
			return err
		}
	}
	select {
	case err := <-failed:
		return err
	default:
		return nil
	}
}

func waitUntil(due time.Time) {
	if sleep := time.Until(due) - watched; sleep > 0 {
		time.Sleep(sleep)
	}
	for time.Now().Before(due) {
	}
}
