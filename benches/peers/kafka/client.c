// A client of Kafka on librdkafka, in its fastest manner: batches in, every record walked on the way out.
//
//   client produce ADDRESS TOPIC PRODUCERS VALUE_BYTES BYTES SECONDS
//   client replay  ADDRESS TOPIC RECORDS
//   client latency ADDRESS TOPIC VALUE_BYTES SECONDS PER_SECOND     (0: one at a time)
//
// Prints "records bytes seconds", or with `latency` the nanoseconds of each append, a line each.

#include <librdkafka/rdkafka.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { BATCH_MESSAGES = 1000, READ_TIMEOUT_MS = 1000, SILENCE_MAX = 30, WATCHED_NANOS = 70 * 1000 };

static int64_t now_nanos(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void fail(const char *what, const char *why) {
  fprintf(stderr, "%s: %s\n", what, why);
  exit(1);
}

static void *allocate(size_t bytes) {
  void *memory = calloc(1, bytes);
  if (!memory) fail("memory", "there is none");
  return memory;
}

static void set(rd_kafka_conf_t *conf, const char *name, const char *value) {
  char error[256];
  if (rd_kafka_conf_set(conf, name, value, error, sizeof error) != RD_KAFKA_CONF_OK) fail(name, error);
}

static rd_kafka_t *connect_to(rd_kafka_type_t type, rd_kafka_conf_t *conf, const char *address) {
  char error[256];
  set(conf, "bootstrap.servers", address);
  rd_kafka_t *kafka = rd_kafka_new(type, conf, error, sizeof error);
  if (!kafka) fail("librdkafka", error);
  return kafka;
}

// The topic is made by the broker when it is first asked for.
static rd_kafka_topic_t *wait_for_topic(rd_kafka_t *kafka, const char *name) {
  rd_kafka_topic_t *topic = rd_kafka_topic_new(kafka, name, NULL);
  if (!topic) fail(name, rd_kafka_err2str(rd_kafka_last_error()));
  for (int attempt = 0; attempt < 300; attempt++) {
    const struct rd_kafka_metadata *metadata;
    int there = 0;
    if (rd_kafka_metadata(kafka, 0, topic, &metadata, 5000) == RD_KAFKA_RESP_ERR_NO_ERROR) {
      there = metadata->topic_cnt == 1 && metadata->topics[0].partition_cnt > 0;
      for (int i = 0; there && i < metadata->topics[0].partition_cnt; i++)
        there = metadata->topics[0].partitions[i].leader >= 0;
      rd_kafka_metadata_destroy(metadata);
    }
    if (there) return topic;
    struct timespec pause = {0, 100 * 1000 * 1000};
    nanosleep(&pause, NULL);
  }
  fail(name, "the topic has no leader");
  return NULL;
}

static char *noise(size_t bytes) {
  char *value = allocate(bytes);
  uint64_t state = 0x9e3779b97f4a7c15;
  for (size_t i = 0; i < bytes; i++) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    value[i] = (char)state;
  }
  return value;
}

static void stop_at_failure(rd_kafka_t *kafka, const rd_kafka_message_t *message, void *opaque) {
  (void)kafka, (void)opaque;
  if (message->err) fail("a record is not appended", rd_kafka_err2str(message->err));
}

typedef struct {
  const char *address, *topic;
  int32_t partition;
  size_t value_bytes;
  int64_t records_max, records;
  double seconds;
  pthread_barrier_t *ready;
} producer_t;

static void *produce_one(void *argument) {
  producer_t *work = argument;
  rd_kafka_conf_t *conf = rd_kafka_conf_new();
  set(conf, "acks", "1");
  set(conf, "linger.ms", "5");
  set(conf, "batch.size", "262144");
  set(conf, "batch.num.messages", "100000");
  set(conf, "queue.buffering.max.messages", "1000000");
  set(conf, "queue.buffering.max.kbytes", "65536");
  set(conf, "delivery.report.only.error", "true");
  rd_kafka_conf_set_dr_msg_cb(conf, stop_at_failure);
  rd_kafka_t *kafka = connect_to(RD_KAFKA_PRODUCER, conf, work->address);
  rd_kafka_topic_t *topic = wait_for_topic(kafka, work->topic);
  char *value = noise(work->value_bytes);
  rd_kafka_message_t *batch = allocate(BATCH_MESSAGES * sizeof *batch);

  pthread_barrier_wait(work->ready);
  int64_t end = now_nanos() + (int64_t)(work->seconds * 1e9);
  while (work->records < work->records_max && now_nanos() < end) {
    int64_t left = work->records_max - work->records;
    int count = left < BATCH_MESSAGES ? (int)left : BATCH_MESSAGES;
    for (int i = 0; i < count; i++) batch[i] = (rd_kafka_message_t){.payload = value, .len = work->value_bytes};
    int taken = rd_kafka_produce_batch(topic, work->partition, 0, batch, count);
    work->records += taken;
    for (int i = 0; i < count; i++)
      if (batch[i].err && batch[i].err != RD_KAFKA_RESP_ERR__QUEUE_FULL)
        fail("a record is not taken", rd_kafka_err2str(batch[i].err));
    rd_kafka_poll(kafka, taken < count ? 1 : 0);
  }
  if (rd_kafka_flush(kafka, 120 * 1000) != RD_KAFKA_RESP_ERR_NO_ERROR) fail("flush", "not all is acknowledged");
  pthread_barrier_wait(work->ready);
  rd_kafka_topic_destroy(topic);
  rd_kafka_destroy(kafka);
  return NULL;
}

static void produce(char **arguments) {
  int producers = atoi(arguments[2]);
  size_t value_bytes = (size_t)atoll(arguments[3]);
  pthread_barrier_t ready;
  pthread_barrier_init(&ready, NULL, (unsigned)producers + 1);
  producer_t *works = allocate((size_t)producers * sizeof *works);
  pthread_t *threads = allocate((size_t)producers * sizeof *threads);
  for (int i = 0; i < producers; i++) {
    works[i] = (producer_t){
        .address = arguments[0],
        .topic = arguments[1],
        .partition = i,
        .value_bytes = value_bytes,
        .records_max = atoll(arguments[4]) / producers / (int64_t)value_bytes,
        .seconds = atof(arguments[5]),
        .ready = &ready,
    };
    if (pthread_create(&threads[i], NULL, produce_one, &works[i])) fail("threads", "there are none");
  }
  pthread_barrier_wait(&ready);
  int64_t begun = now_nanos();
  pthread_barrier_wait(&ready);
  double seconds = (double)(now_nanos() - begun) / 1e9;
  int64_t records = 0;
  for (int i = 0; i < producers; i++) {
    pthread_join(threads[i], NULL);
    records += works[i].records;
  }
  printf("%lld %lld %.6f\n", (long long)records, (long long)records * (long long)value_bytes, seconds);
}

typedef struct {
  int64_t records, bytes;
} walked_t;

static void walk(rd_kafka_message_t *message, void *opaque) {
  walked_t *walked = opaque;
  if (message->err == RD_KAFKA_RESP_ERR__PARTITION_EOF) return;
  if (message->err) fail("a record is not read", rd_kafka_message_errstr(message));
  walked->records++;
  walked->bytes += (int64_t)message->len;
}

static void replay(char **arguments) {
  int64_t wanted = atoll(arguments[2]);
  rd_kafka_conf_t *conf = rd_kafka_conf_new();
  set(conf, "fetch.message.max.bytes", "4194304");
  set(conf, "queued.min.messages", "1000000");
  set(conf, "queued.max.messages.kbytes", "65536");
  set(conf, "fetch.wait.max.ms", "10");
  rd_kafka_t *kafka = connect_to(RD_KAFKA_CONSUMER, conf, arguments[0]);
  rd_kafka_topic_t *topic = wait_for_topic(kafka, arguments[1]);
  walked_t walked = {0, 0};
  int64_t begun = now_nanos();
  if (rd_kafka_consume_start(topic, 0, RD_KAFKA_OFFSET_BEGINNING)) fail("the topic", "it cannot be read");
  int silent = 0;
  while (walked.records < wanted && silent < SILENCE_MAX) {
    int64_t before = walked.records;
    rd_kafka_consume_callback(topic, 0, READ_TIMEOUT_MS, walk, &walked);
    silent = walked.records == before ? silent + 1 : 0;
  }
  double seconds = (double)(now_nanos() - begun) / 1e9;
  printf("%lld %lld %.6f\n", (long long)walked.records, (long long)walked.bytes, seconds);
  rd_kafka_consume_stop(topic, 0);
  rd_kafka_topic_destroy(topic);
  rd_kafka_destroy(kafka);
}

typedef struct {
  int64_t *due, *nanos;
  int64_t answered;
} probe_t;

static void answered(rd_kafka_t *kafka, const rd_kafka_message_t *message, void *opaque) {
  (void)kafka;
  probe_t *probe = opaque;
  if (message->err) fail("a record is not appended", rd_kafka_err2str(message->err));
  int64_t number = (int64_t)(intptr_t)message->_private;
  probe->nanos[number] = now_nanos() - probe->due[number];
  __atomic_fetch_add(&probe->answered, 1, __ATOMIC_RELEASE);
}

static int over;

static void *poll_until_over(void *kafka) {
  while (!__atomic_load_n(&over, __ATOMIC_ACQUIRE)) rd_kafka_poll(kafka, 10);
  return NULL;
}

static void wait_until(int64_t due) {
  int64_t sleep = due - now_nanos() - WATCHED_NANOS;
  if (sleep > 0) {
    struct timespec pause = {sleep / 1000000000, sleep % 1000000000};
    nanosleep(&pause, NULL);
  }
  while (now_nanos() < due) continue;
}

static void latency(char **arguments) {
  size_t value_bytes = (size_t)atoll(arguments[2]);
  double seconds = atof(arguments[3]);
  int64_t rate = atoll(arguments[4]);
  int64_t most = (int64_t)(seconds * (double)(rate ? rate : 100000));
  probe_t probe = {allocate((size_t)most * 8), allocate((size_t)most * 8), 0};
  rd_kafka_conf_t *conf = rd_kafka_conf_new();
  set(conf, "acks", "1");
  set(conf, "linger.ms", "0");
  // What comes while a request is under way shares the next one, and its sync.
  set(conf, "max.in.flight", "1");
  set(conf, "socket.nagle.disable", "true");
  rd_kafka_conf_set_dr_msg_cb(conf, answered);
  rd_kafka_conf_set_opaque(conf, &probe);
  rd_kafka_t *kafka = connect_to(RD_KAFKA_PRODUCER, conf, arguments[0]);
  rd_kafka_topic_t *topic = wait_for_topic(kafka, arguments[1]);
  char *value = noise(value_bytes);
  pthread_t poller;
  if (rate && pthread_create(&poller, NULL, poll_until_over, kafka)) fail("threads", "there are none");
  int64_t begun = now_nanos(), sent = 0;
  while (sent < most && now_nanos() - begun < (int64_t)(seconds * 2e9)) {
    if (rate) {
      probe.due[sent] = begun + sent * 1000000000 / rate;
      wait_until(probe.due[sent]);
    } else {
      if (now_nanos() - begun >= (int64_t)(seconds * 1e9)) break;
      probe.due[sent] = now_nanos();
    }
    if (rd_kafka_produce(topic, 0, 0, value, value_bytes, NULL, 0, (void *)(intptr_t)sent))
      fail("a record is not taken", rd_kafka_err2str(rd_kafka_last_error()));
    sent++;
    while (!rate && probe.answered < sent) rd_kafka_poll(kafka, 1000);
  }
  if (rate) {
    while (__atomic_load_n(&probe.answered, __ATOMIC_ACQUIRE) < sent) wait_until(now_nanos() + 1000000);
    __atomic_store_n(&over, 1, __ATOMIC_RELEASE);
    pthread_join(poller, NULL);
  }
  for (int64_t i = 0; i < sent; i++) printf("%lld\n", (long long)probe.nanos[i]);
  rd_kafka_topic_destroy(topic);
  rd_kafka_destroy(kafka);
}

int main(int count, char **arguments) {
  if (count == 8 && !strcmp(arguments[1], "produce")) produce(arguments + 2);
  else if (count == 5 && !strcmp(arguments[1], "replay")) replay(arguments + 2);
  else if (count == 7 && !strcmp(arguments[1], "latency")) latency(arguments + 2);
  else fail("usage", "see the beginning of client.c");
  return 0;
}
