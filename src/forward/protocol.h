/*
 * protocol: what a kind of upstream is sent and what its answers mean. One protocol = one file
 * (protocol_http.c, protocol_opensearch.c, ...), pure: bytes in, bytes out; no I/O, no clock. The same
 * records under the same sink options, node and frozen_at_ns give the same bytes, in any process, today and
 * after an upgrade that does not change encoding(): retries are byte-identical (design.md §7).
 *
 * An encoder builds one request: begin, add per record, end. Then url and headers say the rest, and judge
 * turns the upstream's answer into a verdict.
 */
#ifndef FORWARD_PROTOCOL_H
#define FORWARD_PROTOCOL_H

#include "core/base.h"
#include "core/clock.h"
#include "core/config_sinks.h"
#include "core/err.h"
#include "core/ulid.h"
#include "forward/body.h"
#include "store/format.h"

struct forward_record {
    uint64_t lsn;
    int64_t received_at_ns;
    struct record record; /* borrowed until add returns */
};

#define FORWARD_KEY_BYTES      128 /* of an idempotency key, with its NUL */
#define FORWARD_ENCODING_BYTES 64
#define FORWARD_URL_BYTES      2048
#define FORWARD_REASON_BYTES   512
#define FORWARD_BODY_MAX       MIB(64)

struct protocol;

/* The time that was written last: records of one batch were received at one time. bytes 0: none yet. */
struct encoder_time {
    int64_t ns;
    size_t bytes;
    char text[CLOCK_RFC3339_BYTES];
};

/* One request in the making. */
struct encoder {
    const struct protocol *protocol;
    const struct config_sink *sink; /* borrowed */
    struct ulid
        node; /* the stream of the records (store/lineage.h): set by the owner before begin, else that of open */
    int64_t frozen_at_ns; /* the only time a body may speak of besides the records' own */
    const char *
        key; /* borrowed: the batch's idempotency key; NULL until it is known: only end may use it */
    struct body body;
    struct body side; /* a second part, joined by end (format object: metrics) */
    uint32_t record_count;
    uint32_t
        item_count; /* things the upstream judges one by one; equals record_count unless the protocol says so */
    uint64_t state; /* the protocol's own; 0 at begin, put back when a record is not taken */
    uint32_t
        end_bytes; /* what end adds to body and side at most; ENCODER_END_BYTES unless begin says so */
    bool
        is_refreezing; /* set by the owner after encoder_begin: this range was frozen before, under limits that
                         * may have been others: only FORWARD_BODY_MAX holds */
    struct encoder_time received; /* see form.h */
    uint32_t
        covered_kinds; /* set by the owner after encoder_begin: the request holds every record of these kinds in
                             * first_lsn..last_lsn, so that others there need not be waited for; 0: it speaks for what it
                             * holds only (a part of a batch, a record from quarantine, a filtered replay, unreadable or
                             * unsayable records between) */
    uint64_t first_lsn, last_lsn; /* the frozen range; set by encoder_end */
    uint64_t segment_id;          /* takes_segments: which file; 0 else */
    const char *segment_suffix;   /* "slc" or "seg" */
};

#define ENCODER_END_BYTES 64

/* What came back. */
enum transport_fault {
    TRANSPORT_OK = 0,
    TRANSPORT_UNREACHABLE, /* no connection: name, refused, unreachable, timed out */
    TRANSPORT_TIMEOUT,     /* connected, no complete answer in time */
    TRANSPORT_BROKEN,      /* reset, half-closed, not HTTP */
    TRANSPORT_TLS,         /* certificates: nobody's passing trouble: the sink pauses */
    TRANSPORT_LOCAL,       /* our own: file not writable, disk full, out of memory */
};
struct upstream_answer {
    enum transport_fault fault;
    int status;              /* HTTP status, 0 without one */
    uint64_t retry_after_ns; /* of Retry-After, 0: none; already bounded (retry.h) */
    struct slice body;       /* at most ANSWER_BYTES_MAX */
    bool is_body_cut;
    char fault_text[FORWARD_REASON_BYTES]; /* of fault: what and where */
};
#define ANSWER_BYTES_MAX MIB(4)

enum verdict {
    VERDICT_DONE = 1, /* all of it is stored */
    VERDICT_RETRY,    /* passing trouble: the same bytes again, later */
    VERDICT_REFUSED,  /* these bytes will never be taken: bisect, quarantine what is left */
    VERDICT_PAUSE, /* nothing will be taken until an operator mends something (401, 403, 404, TLS): no data is
                         touched, looked at again each pause_retry */
    VERDICT_ITEMS, /* item by item */
};
enum item_verdict {
    ITEM_DONE = 0,
    ITEM_RETRY,
    ITEM_REFUSED,
};
struct judgement {
    enum verdict verdict;
    uint64_t retry_after_ns;           /* 0: by backoff */
    int status;                        /* of the answer, for people */
    char reason[FORWARD_REASON_BYTES]; /* the upstream's words, cut; for logs and quarantine */
    /* VERDICT_ITEMS: one for each record of the request, in its order; owned by the caller, who offers room
     * for record_count. */
    uint8_t *items; /* enum item_verdict */
    char (*item_reasons)[FORWARD_REASON_BYTES /
                         2]; /* of the first ITEM_REASONS_MAX refused, in order */
    unsigned item_reason_count;
};
#define ITEM_REASONS_MAX 64

struct protocol {
    const char *name;
    uint32_t kinds;       /* bits of the record kinds it can say at all */
    uint32_t records_max; /* the upstream's limit for one request, 0: none */
    uint64_t body_max;    /* likewise, 0: none (sink->batch_bytes is the smaller one) */
    bool takes_segments;  /* whole segment files instead of records (s3): begin/add/end are NULL */
    bool is_local;        /* file: no HTTP (transport_file.h) */
    /* Is what the options of this type say possible at all (an index pattern, a table's name)? Asked once, at start,
     * before the sink is used: ERR_SYNTAX with a text for people. NULL: nothing to judge. */
    int (*check)(const struct config_sink *sink, struct err *err);
    /* The name of exactly this way of writing under these options: changes whenever the bytes would
     * ("http/ndjson/meta/1"). Part of the frozen manifest. out: FORWARD_ENCODING_BYTES. */
    void (*encoding)(const struct config_sink *sink, char *out);
    void (*begin)(struct encoder *encoder);
    /* 0: in. ERR_LIMIT: does not fit any more, nothing was added: the request ends before it (never for the first
     * record unless it is over FORWARD_BODY_MAX: then ERR_UNSUPPORTED). ERR_UNSUPPORTED with a text for people:
     * this record cannot be said to this upstream, ever; nothing was added; it goes to quarantine.
     * Counting records, and taking back what was written of one that is refused or does not fit
     * (body->is_over, batch_bytes), is encoder_add's: an add may simply write and return 0. item_count is
     * encoder_add's too unless add raises it itself. */
    int (*add)(struct encoder *encoder, const struct forward_record *record, struct err *err);
    void (*end)(struct encoder *encoder);
    /* NUL-terminated; out: FORWARD_URL_BYTES. encoder is ended, its key is set. */
    void (*url)(const struct encoder *encoder, char *out);
    const char *method;
    const char *content_type; /* NULL: it depends on the sink, headers says it */
    /* More headers, "Name: value\0" one after the other, an empty one ends; out: 1024 bytes. NULL: none. */
    void (*headers)(const struct encoder *encoder, char *out);
    /* judgement is zeroed but for the room it offers. */
    void (*judge)(const struct encoder *encoder, const struct upstream_answer *answer,
                  struct judgement *judgement);
};

/* Their objects: forward/protocol_table.h. By type; never NULL for a type of config_sinks.h. */
const struct protocol *protocol_of(enum sink_type type);
/* The protocol's check, if it has one. */
int protocol_check(const struct config_sink *sink, struct err *err) MUST_USE;

/* encoder.c: the frame around them. sink and protocol fixed at open; body keeps its memory between requests. */
void encoder_open(struct encoder *encoder, const struct config_sink *sink, struct ulid node);
void encoder_close(struct encoder *encoder);
void encoder_begin(struct encoder *encoder, int64_t frozen_at_ns);
/* protocol->add within batch_bytes, batch_records and the protocol's own limits: a request is larger than batch_bytes
 * only when it holds a single record. Negative: body, side, state and counts are as before. ERR_LIMIT never for
 * the first record; one that the protocol (body_max) or FORWARD_BODY_MAX can never hold is ERR_UNSUPPORTED. */
int encoder_add(struct encoder *encoder, const struct forward_record *record,
                struct err *err) MUST_USE;
/* key is borrowed until the next begin. */
void encoder_end(struct encoder *encoder, const char *key, uint64_t first_lsn, uint64_t last_lsn);
/* Instead of begin, add, end where the protocol takes segments: the body is the file's bytes, put by the caller. */
void encoder_segment(struct encoder *encoder, uint64_t segment_id, const char *suffix,
                     uint32_t record_count);

/* What every HTTP upstream has in common (judge.h has what protocols' own judges are made of): 2xx done; 408 425 429 5xx and faults retry; 401 403 404 405 407 and TLS
 * pause; 3xx pause (we follow no redirects); other 4xx refused. Takes the reason from the body's first line
 * (printable bytes, cut). Protocols call it for what they do not know better. */
void judge_by_status(const struct upstream_answer *answer, struct judgement *judgement);

#endif
