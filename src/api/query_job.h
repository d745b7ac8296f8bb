/*
 * query_job: one query or tail on its way through the pool: the struct that a shard and a worker
 * share, what they say to each other, and the worker's part of its life. Private to the files of
 * the query pool (query_pool.h is the door).
 *
 *   shard: slot FREE -> WAITING (a page) or STREAMING (lines, tail) -> LEFT -> FREE
 *   worker: REQUEST_JOB -> step, step, ... -> REPLY_END
 *
 * Happy path: the shard fills a slot and sends its number; the worker scans, a block per step, and
 * sends what it finds; the last frame says END, and the shard frees the slot.
 * What goes wrong: the client leaves (the shard sets is_cancelled, the worker ends it at its next
 * step); it reads slowly (the worker has no credit and does not step it); the disk cannot be read
 * (a page says 503, a stream breaks off); the log is damaged (that block is left out and counted in
 * the answer); the server stops (must_end: a page ends with what it has and a cursor).
 *
 * Between REQUEST_JOB and END the worker owns params, call and run, whatever happens to the client; END
 * gives them back (Q2).
 */
#ifndef API_QUERY_JOB_H
#define API_QUERY_JOB_H

#include "api/query_page.h"
#include "api/query_pool.h"
#include "core/spsc.h"
#include "net/websocket.h"

/* Bytes of one job that the worker has sent and the client has not taken. */
#define QUERY_UNSENT (128u * 1024u)
/* Of one reply. A page that is no larger is answered whole, with Content-Length. */
#define QUERY_REPLY_BYTES_MAX (64u * 1024u)
/* Credit below this is not worth a reply, unless it is enough. */
#define QUERY_REPLY_BYTES_MIN (8u * 1024u)
/* A step that has found this much is enough for now. */
#define QUERY_STEP_BYTES (64u * 1024u)

_Static_assert(QUERY_UNSENT >= QUERY_REPLY_BYTES_MAX, "a whole page never waits for credit");
_Static_assert(QUERY_UNSENT + QUERY_UNSENT / 4 <= SERVER_STREAM_UNSENT,
               "what a worker may send has room in the stream, with the framing of its chunks");

enum query_form {
    QUERY_PAGE = 1,
    QUERY_LINES,
    QUERY_TAIL,
    QUERY_CALL,
};

/* ---- what they say to each other: the types of the rings' frames ---- */

enum {
    REQUEST_JOB = 1,     /* begin */
    REQUEST_MESSAGE = 2, /* a client's text message for a tail; its bytes follow */
};

struct query_request {
    uint32_t index;
    uint32_t generation;
};

enum {
    REPLY_WHOLE = 1, /* a complete answer: status, and its body follows */
    REPLY_BYTES = 2, /* a piece of a stream follows */
    REPLY_END = 3,   /* the worker has let go of the job: always the last */
};

struct query_reply {
    uint32_t index;
    uint32_t generation;
    uint32_t
        status; /* WHOLE, and BYTES of a call: of HTTP; END: 0, or the close code of a tail, or 1: broken off */
    uint32_t is_boundary; /* BYTES of a tail: nothing is begun and not ended behind them */
};

/* What the jobs of one worker work with. */
struct query_source {
    struct scan_source scan;
    const struct store_status *status;
    struct query_counts *counts;
    uint8_t *scratch;           /* LOOKUP_SCRATCH_BYTES, for one match at a time */
    struct tail_reader *reader; /* of messages */
};

/* A call: an answer that one function makes, which may block (a database): no scan, no second step. While it runs, its worker's
 * other jobs wait, so it must come back within seconds. */
#define QUERY_CALL_NAME_MAX 64u
#define QUERY_CALL_TEXT_MAX 8192u /* no target is longer */
struct query_call {
    /* In the worker's thread: puts the body into out and returns the status; 503 gets a Retry-After. */
    unsigned (*answer)(const struct query_call *call, struct query_text *out);
    const void *context;
    /* In the shard's thread, or NULL: further header fields of an answer with that status (not of 503); and the end of the call, whatever
     * has become of it: what it borrowed may go. */
    struct slice (*fields)(const struct query_call *call, unsigned status);
    void (*release)(const struct query_call *call);
    void *owner;         /* for release */
    const void *subject; /* for answer */
    /* What was asked; which of them count is answer's affair. */
    int order;
    uint32_t limit;
    uint64_t id;
    uint64_t after;
    uint32_t name_bytes;
    uint8_t name[QUERY_CALL_NAME_MAX];
    uint32_t text_bytes;
    uint8_t text[QUERY_CALL_TEXT_MAX];
};

/* The worker's part of a job. */
struct query_run {
    const struct query_source *source;
    struct spsc *replies; /* NULL: not the worker's */
    struct scan *scan;
    struct query_matcher matcher;
    struct query_text out;
    size_t out_at; /* what of it was sent */
    uint64_t sent;
    uint64_t end_lsn;     /* durable at the beginning: pages and lines end there */
    uint64_t looked_from; /* scan_bytes, scan_skipped_bytes that were counted already */
    uint64_t skipped_from;
    uint64_t bytes_before; /* of scans before this one */
    uint64_t damaged;
    uint64_t last_lsn; /* of the last record shown */
    uint32_t records;
    uint32_t looks;      /* steps since a page was full */
    uint32_t whole;      /* status of a whole answer that is in out; 0: none */
    uint32_t status;     /* of an answer in pieces; 0: 200 */
    uint32_t end_status; /* of REPLY_END */
    bool has_view;       /* the log's files are known to readers */
    bool has_more;       /* a page: there is another match */
    bool is_streaming;   /* a page that was too large for a whole answer */
    bool is_finished;    /* nothing more will be found */
    /* Tails. */
    bool is_live;     /* it has been up to date once: from then on it may skip */
    bool was_blocked; /* it had no credit since */
    bool is_waiting;  /* for more than seen_lsn to be durable */
    uint64_t seen_lsn;
};

/* The shard's part of a tail. */
struct tail_conn {
    struct websocket *websocket;
    const struct tail_link *link; /* while it is fed */
    uint64_t ping_at_ns;
    uint64_t pong_due_ns;  /* 0: no ping is out */
    uint64_t close_due_ns; /* 0: not closing */
    uint32_t control_bytes;
    bool is_inside;  /* a message is begun and not ended: control frames wait */
    bool is_closing; /* a close frame is in control, or was sent: nothing follows it */
    bool is_closed;  /* both sides have said so */
    uint8_t control[2048];
};

enum query_slot {
    SLOT_FREE = 0,
    SLOT_WAITING,   /* the request is not answered yet */
    SLOT_STREAMING, /* the answer is under way */
    SLOT_LEFT,      /* the connection has nothing to do with it any more */
};

struct query_job {
    /* The shard's; what the worker reads of it is written before REQUEST_JOB. */
    enum query_form form;
    enum query_slot slot;
    uint32_t index;
    uint32_t generation;
    unsigned worker;
    uint32_t used_at;    /* in side->used */
    bool is_owing;       /* in side->owing */
    bool is_worker_done; /* END has come */
    struct conn_handle conn;
    uint64_t start_lsn;   /* tail: from here on */
    uint64_t deadline_ns; /* page: monotonic; lines: only for the log to appear */
    uint64_t put_bytes;   /* given to the stream */
    struct tail_conn tail;
    /* Crossing: shard writes, worker reads. */
    _Atomic uint64_t consumed;
    _Atomic bool is_cancelled;
    _Atomic bool must_end;
    /* The worker's from REQUEST_JOB to REPLY_END. */
    struct query_params params;
    struct query_call call;
    struct query_run run;
};

/* ---- the worker's thread ---- */

enum query_stepped {
    QUERY_IDLE = 0,   /* waits for credit, room in the ring or news */
    QUERY_WORKED = 1, /* step it again */
    QUERY_ENDED = 2,  /* END was sent; the job is the shard's again */
};

void query_job_begin(struct query_job *job, const struct query_source *source,
                     struct spsc *replies);
/* One step: sends what waits, else scans one block. now_ns: monotonic. */
enum query_stepped query_job_step(struct query_job *job, uint64_t now_ns);
/* Frees what the job holds without a word: the pool stops. */
void query_job_drop(struct query_job *job);

/* For tail.c: a scan from lsn_min on in place of the one before. lsn_min 0: as params say. */
void query_job_scan(struct query_job *job, scan_take_fn take, uint64_t lsn_min, uint64_t lsn_max,
                    bool is_descending);
/* For tail.c: one step of the scan, counted. */
int query_job_scan_step(struct query_job *job, struct err *err) MUST_USE;
void query_job_finish(struct query_job *job, uint32_t end_status);

#endif
