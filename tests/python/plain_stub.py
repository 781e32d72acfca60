"""Produces and consumes with plain grpcio: no client library, no generated files.

The message classes come from the descriptors that the broker's reflection serves.

    python plain_stub.py 127.0.0.1:7420
"""

import sys
import time

import grpc
from google.protobuf import descriptor_pool, message_factory
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

PACKAGE = "flowstone.v1"
PARTITIONS = 3
RECORDS = 600
TIMEOUT = 20


class Stub:
    """A service as a generated stub shows it: a method for each rpc, and its request class."""

    def __init__(self, channel, pool, name):
        service = pool.FindServiceByName(f"{PACKAGE}.{name}")
        for method in service.methods:
            request = message_factory.GetMessageClass(method.input_type)
            response = message_factory.GetMessageClass(method.output_type)
            kind = {
                (False, False): channel.unary_unary,
                (False, True): channel.unary_stream,
                (True, False): channel.stream_unary,
                (True, True): channel.stream_stream,
            }[method.client_streaming, method.server_streaming]
            call = kind(
                f"/{service.full_name}/{method.name}",
                request_serializer=request.SerializeToString,
                response_deserializer=response.FromString,
            )
            setattr(self, method.name, call)


def check(what, holds):
    if not holds:
        sys.exit(f"not as it should be: {what}")
    print(f"  {what}")


def main(address):
    channel = grpc.insecure_channel(address)
    database = ProtoReflectionDescriptorDatabase(channel)
    pool = descriptor_pool.DescriptorPool(database)
    services = set(database.get_services())
    check("reflection lists the services", {
        f"{PACKAGE}.LogService",
        f"{PACKAGE}.TopicService",
        f"{PACKAGE}.GroupService",
        f"{PACKAGE}.ClusterService",
        "grpc.health.v1.Health",
    } <= services)

    def message(name):
        return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.{name}"))

    log = Stub(channel, pool, "LogService")
    topics = Stub(channel, pool, "TopicService")
    groups = Stub(channel, pool, "GroupService")
    cluster = Stub(channel, pool, "ClusterService")

    limits = cluster.GetCluster(message("GetClusterRequest")(), timeout=TIMEOUT).limits
    check("GetCluster tells the limits", limits.max_record_bytes > 0)

    create = message("CreateTopicRequest")()
    create.topic.name = "visits"
    create.topic.partition_count = PARTITIONS
    created = topics.CreateTopic(create, timeout=TIMEOUT)
    check("a topic is created", created.topic.partition_count == PARTITIONS)

    # Produce: some in single calls, some in a stream.
    sent = {}
    order = {}

    def request(numbers):
        produce = message("ProduceRequest")(topic="visits")
        for number in numbers:
            key, value = b"stand-%d" % (number % 20), b"visit %d" % number
            record = produce.records.add(key=key, value=value)
            record.headers.add(key="till", value=b"%d" % (number % 3))
        return produce

    def note(numbers, response):
        places = [
            (run.partition, run.base_offset + i)
            for run in response.runs
            for i in range(run.record_count)
        ]
        check_count = len(places) == len(numbers)
        if not check_count:
            sys.exit(f"{len(places)} places for {len(numbers)} records")
        for number, place in zip(numbers, places):
            sent[place] = number
            order.setdefault(number % 20, []).append(place)

    for first in range(0, RECORDS // 2, 10):
        numbers = range(first, first + 10)
        note(numbers, log.Produce(request(numbers), timeout=TIMEOUT))
    rest = [range(first, first + 25) for first in range(RECORDS // 2, RECORDS, 25)]
    stream_request = message("ProduceStreamRequest")
    requests = (stream_request(produce=request(numbers)) for numbers in rest)
    answered = 0
    for numbers, response in zip(rest, log.ProduceStream(requests, timeout=TIMEOUT)):
        if response.HasField("error"):
            sys.exit(f"the stream failed: {response.error}")
        note(numbers, response.produce)
        answered += 1
    check("every produce call is answered", answered == len(rest) and len(sent) == RECORDS)
    check("each key is in one partition, in order", all(
        len({partition for partition, _ in places}) == 1 and places == sorted(places)
        for places in order.values()
    ))

    # With a producer a call can be repeated after any failure, and is appended once.
    numbers = range(RECORDS, RECORDS + 10)
    once = request(numbers)
    once.producer.id, once.producer.sequence = "till-9", 1
    first = log.Produce(once, timeout=TIMEOUT)
    again = log.Produce(once, timeout=TIMEOUT)
    check("a repeated call is appended once", (
        not first.duplicate and again.duplicate and list(again.runs) == list(first.runs)
    ))
    note(numbers, first)

    # Read it all, up to what is the end now.
    subscribe = message("SubscribeRequest")(topic="visits")
    subscribe.stop.current_end = True
    read = {}
    for response in log.Subscribe(subscribe, timeout=TIMEOUT):
        if response.HasField("error"):
            sys.exit(f"the stream failed: {response.error}")
        for record in response.records:
            place = response.cursor.partition, record.offset
            number = sent.get(place)
            if (
                number is None
                or place in read
                or record.key != b"stand-%d" % (number % 20)
                or record.value != b"visit %d" % number
                or [(h.key, h.value) for h in record.headers] != [("till", b"%d" % (number % 3))]
                or abs(record.timestamp_ms / 1000 - time.time()) > 600
            ):
                sys.exit(f"not what was produced: {place} {record}")
            read[place] = number
    check(f"all {len(sent)} records come back as they were", read == sent)

    # Read as a member of a group: the stream is the membership. Commit half of what comes.
    join = message("SubscribeRequest")(topic="visits", group="billing", max_batch_bytes=1000)
    member = log.Subscribe(join, timeout=TIMEOUT)
    committed = {}
    seen = 0
    for response in member:
        if not response.records:
            continue
        seen += len(response.records)
        if seen > RECORDS // 2:
            break
        commit = message("CommitOffsetsRequest")(cursors=[response.cursor])
        stale = log.CommitOffsets(commit, timeout=TIMEOUT).stale
        if stale:
            sys.exit(f"the commit is stale: {stale}")
        committed[response.cursor.partition] = response.cursor.offset

    # A second member is let in, and told what it may read. When the first leaves it gets the rest.
    second = log.Subscribe(join, timeout=TIMEOUT)
    told = next(iter(second))
    check("a second member is let in, and told its share", told.HasField("assignment"))
    member.cancel()
    partitions = {at.partition for at in told.assignment.partitions}
    everything = {partition for partition, _ in sent}
    first_of = {}
    left = dict(sent)
    for response in second:
        if response.HasField("assignment"):
            partitions = {at.partition for at in response.assignment.partitions}
        for record in response.records:
            partition = response.cursor.partition
            first_of.setdefault(partition, record.offset)
            left.pop((partition, record.offset), None)
        behind = all(offset < committed.get(partition, 0) for partition, offset in left)
        if behind and partitions >= everything:
            break
    second.cancel()
    check("the second member begins where the group had committed", all(
        first_of.get(partition, offset) == offset for partition, offset in committed.items()
    ))
    check("together they have read everything", all(
        offset < committed.get(partition, 0) for partition, offset in left
    ))
    group = groups.GetGroup(message("GetGroupRequest")(group="billing"), timeout=TIMEOUT).group
    told = {at.partition: at.committed_offset for at in group.offsets if at.HasField("committed_offset")}
    check("the group's commits are told", told == committed)

    # An error says what is wrong without a client library.
    try:
        log.Produce(message("ProduceRequest")(topic="nosuch"), timeout=TIMEOUT)
        sys.exit("a topic that is not there took records")
    except grpc.RpcError as error:
        trailers = dict(error.trailing_metadata())
        check("an unknown topic is NOT_FOUND, with the reason as a trailer", (
            error.code() == grpc.StatusCode.NOT_FOUND
            and trailers["flowstone-reason"] == "TOPIC_NOT_FOUND"
        ))
    print("a plain Python stub produces, consumes and commits")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
