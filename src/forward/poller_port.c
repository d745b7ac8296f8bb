#include "forward/poller_port.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "core/buf.h"
#include "core/mem.h"

void poller_port_init(struct poller_port *port, struct store_port *of_store)
{
    *port = (struct poller_port){.port = of_store, .body = mem_alloc(body_struct_bytes())};
    ulid_source_init(&port->ulids);
}

void poller_port_free(struct poller_port *port)
{
    mem_free(port->body);
    port->body = NULL;
}

/* ---- into the ring ---- */

struct filling {
    struct poller_port *port;
    const struct poller_request *request;
    struct poller_submitted *submitted;
    uint8_t *claim;
    uint64_t used, room;
    struct submit_header header;
    struct body_record held; /* one behind: the last record is told by what follows it */
    bool has_held;
};

static void encode(struct filling *filling, struct slice meta)
{
    struct submit_header *header = &filling->header;
    struct record record = {
        .kind = RECORD_METRIC,
        .event_time_ns = filling->held.event_time_ns,
        .id = ulid_next(&filling->port->ulids, filling->request->real_ns),
        .meta = meta,
        .payload = filling->held.payload,
    };
    ASSERT(record_padded_bytes(meta.bytes, record.payload.bytes) <=
           filling->room - filling->used); /* see bytes_needed */
    filling->used += record_encode(filling->claim + filling->used, &record);
    int64_t time_ns = record.event_time_ns;
    bool is_first = header->record_count++ == 0;
    header->time_min_ns = is_first || time_ns < header->time_min_ns ? time_ns : header->time_min_ns;
    header->time_max_ns = is_first || time_ns > header->time_max_ns ? time_ns : header->time_max_ns;
}

static void reject(struct poller_submitted *submitted, const struct issue_list *issues)
{
    struct buf out;
    submitted->rejected++;
    if (submitted->why[0] != 0 || issues->count == 0) {
        return;
    }
    memset(submitted->why, 0, sizeof submitted->why);
    buf_init(&out, submitted->why, sizeof submitted->why - 1);
    issue_write(&out, "row", &issues->items[0]);
}

static void fill(struct filling *filling)
{
    struct body *body = filling->port->body;
    struct issue_list issues;
    struct body_record record;
    const struct poller_request *request = filling->request;
    body_open(body, SCHEMA_METRIC, SHAPE_NDJSON, request->body.data, request->body.bytes,
              request->real_ns);
    /* Bounded by the body: every step takes at least one byte of it. */
    for (;;) {
        switch (body_next(body, &record, &issues)) {
        case BODY_RECORD:
            if (filling->has_held) {
                encode(filling, (struct slice){0});
            }
            filling->held = record;
            filling->has_held = true;
            continue;
        case BODY_REJECT:
            reject(filling->submitted, &issues);
            continue;
        case BODY_END:
        case BODY_INVALID: /* an empty body; lines that are no JSON are rejected one by one */
        case BODY_OTLP:
            return;
        }
    }
}

/* Never too little: a header and padding for each line beside the lines themselves. */
static uint64_t bytes_needed(const struct poller_request *request)
{
    uint64_t lines = 1;
    const uint8_t *at = request->body.data;
    const uint8_t *end = at + request->body.bytes;
    while ((at = memchr(at, '\n', (size_t)(end - at))) != NULL) {
        lines++;
        at++;
    }
    return sizeof(struct submit_header) + request->body.bytes +
           lines * (RECORD_HEADER_BYTES + RECORD_ALIGN) +
           record_padded_bytes(meta_watermark_bytes(&request->mark), 0);
}

static void commit(struct filling *filling)
{
    struct poller_port *port = filling->port;
    struct submit_header *header = &filling->header;
    header->records_bytes = (uint32_t)(filling->used - sizeof *header);
    header->kinds = 1u << RECORD_METRIC;
    header->submitted_at_ns = filling->request->now_ns;
    memcpy(filling->claim, header, sizeof *header);
    port->pending[port->pending_count++] = (struct poller_pending){
        .end = spsc_commit(&port->port->submit, SUBMIT_REQUEST, filling->used),
        .who = filling->request->who,
        .records = header->record_count,
    };
    (void)spsc_publish(&port->port->submit);
    (void)park_wake(port->port->writer_park, false);
}

int poller_port_submit(struct poller_port *port, const struct poller_request *request,
                       struct poller_submitted *submitted)
{
    uint8_t meta[WATERMARK_SOURCE_MAX + WATERMARK_MARK_MAX + 16];
    struct filling filling = {.port = port, .request = request, .submitted = submitted};
    ASSERT(port->pending_count < CONFIG_POLLERS_MAX);
    ASSERT(meta_watermark_bytes(&request->mark) <= sizeof meta);
    *submitted = (struct poller_submitted){0};
    filling.room = bytes_needed(request);
    filling.claim = spsc_claim(&port->port->submit, filling.room);
    if (filling.claim == NULL) {
        return -EAGAIN;
    }
    filling.used = sizeof filling.header;
    fill(&filling);
    if (!filling.has_held) {
        return 0; /* the claim is given up by not committing it */
    }
    encode(&filling, (struct slice){meta, meta_watermark_encode(meta, &request->mark)});
    submitted->records = filling.header.record_count;
    submitted->time_max_ns = filling.header.time_max_ns;
    commit(&filling);
    return 0;
}

/* ---- what became of it ---- */

/* Takes every request up to end. first_lsn 0: they failed. */
static unsigned settle(struct poller_port *port, uint64_t end, uint64_t first_lsn, int cause,
                       struct poller_ack *acks)
{
    unsigned count = 0;
    uint64_t lsn = first_lsn;
    /* Positions are compared by difference, so that they may wrap. */
    while (count < port->pending_count && (int64_t)(port->pending[count].end - end) <= 0) {
        lsn += port->pending[count].records;
        acks[count] =
            (struct poller_ack){port->pending[count].who, cause, cause == 0 ? lsn - 1 : 0};
        count++;
    }
    port->pending_count -= count;
    memmove(port->pending, port->pending + count, port->pending_count * sizeof port->pending[0]);
    return count;
}

unsigned poller_port_take(struct poller_port *port, struct poller_ack *acks)
{
    struct spsc *ring = &port->port->acks;
    const struct spsc_frame *frame;
    unsigned count = 0;
    /* Bounded: at most one ack for each request pending. */
    while ((frame = spsc_take(ring)) != NULL) {
        if (frame->type == ACK_DURABLE) {
            const struct ack_durable *ack = (const void *)frame->payload;
            count += settle(port, ack->end, ack->first_lsn, 0, acks + count);
        } else {
            const struct ack_failed *ack = (const void *)frame->payload;
            ASSERT(frame->type == ACK_FAILED); /* no outcomes: nothing here is keyed */
            count += settle(port, ack->end, 0, (int)ack->cause, acks + count);
        }
    }
    spsc_release(ring);
    return count;
}

bool poller_port_has_acks(struct poller_port *port)
{
    return !spsc_is_empty(&port->port->acks);
}
