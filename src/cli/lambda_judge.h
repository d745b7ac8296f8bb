/*
 * lambda_judge: is this a record as our own ingest takes them? model/body.h behind a door of its own, because
 * its struct body and that of forward/body.h cannot meet in one file. One thread.
 */
#ifndef CLI_LAMBDA_JUDGE_H
#define CLI_LAMBDA_JUDGE_H

#include "core/base.h"
#include "store/format.h"

struct lambda_judge;

struct lambda_judged {
    int64_t event_time_ns;
    uint8_t severity;
    struct slice event_id; /* borrowed until the next call; empty: none */
};

struct lambda_judge *lambda_judge_new(void);
void lambda_judge_free(struct lambda_judge *judge);
/* Logs, metrics and events by their schemas; of other kinds any object will do. False: why is what issue_list_write
 * says, or a sentence. */
bool lambda_judge_record(struct lambda_judge *judge, enum record_kind kind, struct slice payload,
                         int64_t default_time_ns, struct lambda_judged *judged, char *why,
                         size_t room) MUST_USE;

#endif
