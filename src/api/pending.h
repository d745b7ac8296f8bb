/*
 * pending: the FIFO of requests that wait for the writer, in the order of the shard's ring. Owned
 * by the shard's thread. Ring order is answer order, so a connection's answers come out in request
 * order by themselves. Bounded: full is an answer (429).
 */
#ifndef API_PENDING_H
#define API_PENDING_H

#include "core/base.h"
#include "core/ulid.h"
#include "net/server.h"
#include "store/submit.h"

enum pending_flags {
    PENDING_KEYED = 1u << 0,     /* an ACK_OUTCOME comes first */
    PENDING_ANSWERED = 1u << 1,  /* acknowledged from memory: only the ledger waits */
    PENDING_FORMATTED = 1u << 2, /* not the hot form: HTTP/1.0, Connection: close, an Origin */
    PENDING_REPLICA = 1u << 3,   /* answered as POST /v1/replicate does; with PENDING_KEYED */
    PENDING_RUNS = 1u << 4,      /* commands of agent runs: answered when they are applied */
};

struct pending {
    uint64_t end; /* ring position just after the request's frame */
    uint64_t received_at_ns;
    struct conn_handle conn;
    uint32_t record_count;
    uint32_t rejected;
    uint8_t form; /* enum submit_form */
    uint8_t flags;
    uint16_t reserved;
    uint32_t errors_bytes;
    struct ulid id;              /* FORM_OBJECT */
    uint8_t *errors;             /* arena: text of the answer's "errors"; NULL: [] */
    struct ack_outcome *outcome; /* arena: copy, once it came */
    struct runs_note *runs;      /* PENDING_RUNS: what the answer will say (runs_side.h) */
};

struct pending_queue {
    struct pending *items;
    uint64_t capacity;     /* power of two */
    uint64_t head;         /* oldest */
    uint64_t outcome;      /* first that may still get an outcome */
    uint64_t tail;         /* next free */
    uint64_t record_count; /* sum over the queue */
};

void pending_init(struct pending_queue *queue, uint64_t capacity);
void pending_close(struct pending_queue *queue);

static inline bool pending_is_empty(const struct pending_queue *queue)
{
    return queue->head == queue->tail;
}

static inline bool pending_is_full(const struct pending_queue *queue)
{
    return queue->tail - queue->head == queue->capacity;
}

static inline uint64_t pending_count(const struct pending_queue *queue)
{
    return queue->tail - queue->head;
}

/* The new last entry, uninitialised; the queue must not be full. */
struct pending *pending_push(struct pending_queue *queue, uint32_t record_count);
/* The newest, which pending_push gave last; the queue must not be empty. */
struct pending *pending_newest(struct pending_queue *queue);
/* The oldest; the queue must not be empty. */
struct pending *pending_oldest(struct pending_queue *queue);
void pending_pop(struct pending_queue *queue);
/* The entry whose frame ended at `end`, searching forward only (outcomes come in order); NULL when
 * there is none. */
struct pending *pending_find(struct pending_queue *queue, uint64_t end);

#endif
