/*
 * tail: GET /v1/tail on both sides: what the worker says in messages, and what the shard does with
 * frames. Private to the files of the query pool.
 *
 *   server: {"lsn","id","kind","received_at","record"}     a record, one text message each
 *           {"type":"gap","from_lsn":a,"to_lsn":b}         these are left out: the client was too
 *                                                          slow, or they have expired
 *           {"type":"damaged","lsn":n}                     a block at n could not be read
 *           {"type":"subscribed","from_lsn":n}             the answer to "subscribe"
 *           {"type":"pong"}, {"type":"error","detail":...}
 *   client: {"type":"subscribe","from_lsn"?,"service"?,...} as the query parameters; replaces the
 *           filters; without from_lsn it goes on where it stands
 *           {"type":"ping"}
 *
 * The log itself is the queue of a tail: it holds a position and at most QUERY_UNSENT bytes. A tail
 * that catches up with from_lsn is read at its client's pace, whatever that is, and misses nothing.
 * Once it has been up to date it is live: a live tail that had no credit and finds itself more than
 * TAIL_LAG_MAX records behind says "gap" and goes on with the newest.
 *
 * The protocol's own ping goes out every TAIL_PING_NS; who does not answer it within TAIL_PONG_NS
 * is closed.
 */
#ifndef API_TAIL_H
#define API_TAIL_H

#include "api/query_job.h"

#define TAIL_LAG_MAX  16384u
#define TAIL_PING_NS  (30 * NS_S)
#define TAIL_PONG_NS  (60 * NS_S)
#define TAIL_CLOSE_NS (2 * NS_S) /* for the closing handshake */

#define TAIL_TRY_AGAIN_LATER 1013 /* a close code of the IANA registry */

/* ---- the worker's thread ---- */

void tail_begin(struct query_job *job);
/* False: nothing to do until more is durable. */
bool tail_step(struct query_job *job);

/* Room for understanding messages; one per worker. */
struct tail_reader *tail_reader_new(void);
void tail_reader_free(struct tail_reader *reader);
/* A client's message; real_ns: now, for relative times. */
void tail_on_message(struct query_job *job, struct slice text, int64_t real_ns);

/* ---- the shard's thread: job->tail ---- */

/* on_text takes the client's messages. */
typedef bool (*tail_on_text)(void *context, struct query_job *job, struct slice text);
struct tail_link {
    tail_on_text on_text; /* false: no room; the tail is closed with TAIL_TRY_AGAIN_LATER */
    void *context;
    uint64_t now_ns;
};
/* False: no memory. */
bool tail_conn_open(struct query_job *job, uint64_t now_ns) MUST_USE;
void tail_conn_free(struct query_job *job);
void tail_conn_feed(struct query_job *job, const struct tail_link *link, struct slice bytes);
/* Pings, and gives up who does not answer. */
void tail_conn_tick(struct query_job *job, uint64_t now_ns);
/* Begins the closing handshake; once. */
void tail_conn_close(struct query_job *job, uint16_t code, const char *reason, uint64_t now_ns);
/* May this piece of the worker's be sent? After a close frame nothing is, but for the rest of a
 * message that is under way. */
bool tail_conn_takes(const struct query_job *job);
/* Control frames that may be sent now (empty: none); sent: they were. */
struct slice tail_conn_control(const struct query_job *job);
void tail_conn_sent(struct query_job *job);
/* The stream must end: the handshake is done, or took too long. */
bool tail_conn_is_over(const struct query_job *job, uint64_t now_ns);

#endif
