/*
 * lambda_batch: the records of a body that came through a gateway, in the forms that our http sink writes:
 *
 *   {"batch_id","source","sent_at","logs":[...],"metrics":[...],"events":[...],...}   format object
 *   NDJSON or an array of records; or one record                                     formats ndjson and array
 *
 * each record in its meta form ({"id","lsn","kind","received_at","record"}) or raw. One thread; its memory is kept from batch to
 * batch; slices point into the body.
 *
 * What a record is called must not depend on when it arrives: with its own id (or event_id) it is known anywhere, without
 * one it is called after batch_id and its place in the batch, so that a repeated event has the same names. Its
 * version, for upstreams that ask for one, is its LSN, else made of sent_at and its place.
 *
 * Every record is judged again (model/body.h): what our own ingest would refuse is poison, named with its place.
 */
#ifndef CLI_LAMBDA_BATCH_H
#define CLI_LAMBDA_BATCH_H

#include "core/base.h"
#include "core/buf.h"
#include "forward/body.h"
#include "forward/protocol.h"

#define LAMBDA_TEXT_BYTES   256
#define LAMBDA_FAULTS_SHOWN 100u
#define LAMBDA_FAULT_BYTES  400

struct lambda_record {
    struct forward_record forward;
    const char *list; /* "logs", "metrics", ..., "records": where it stood, static */
    uint32_t index;   /* in that list */
};

struct lambda_batch {
    char id[LAMBDA_TEXT_BYTES];
    char source[LAMBDA_TEXT_BYTES];
    int64_t sent_at_ns; /* 0: not said */
    struct ulid
        node; /* of the source: the id's node where it begins with one, else made of source */
    struct lambda_record *records;
    size_t count, room;
    /* Records that no upstream will ever take: JSON objects, comma separated. */
    struct body faults;
    uint32_t fault_count;
    char first_fault[LAMBDA_FAULT_BYTES]; /* why, of the first; "" */
};

struct lambda_batch_reader;

struct lambda_batch_reader *lambda_batch_reader_new(void);
void lambda_batch_reader_free(struct lambda_batch_reader *reader);

/* key: the request's idempotency key, which stands for a batch_id that is not there; "". 0, or -1: the body is not
 * what it should be, why in err. Poison records are in faults and not in records. */
int lambda_batch_read(struct lambda_batch_reader *reader, struct slice body, const char *key,
                      struct lambda_batch **batch, struct err *err) MUST_USE;

/* {"list","index","error"}; at most LAMBDA_FAULTS_SHOWN are kept, all are counted. */
void lambda_batch_fault(struct lambda_batch *batch, const char *list, uint32_t index,
                        const char *error);

#endif
