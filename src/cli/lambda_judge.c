#include "cli/lambda_judge.h"

#include <stdio.h>
#include <string.h>

#include "core/mem.h"
#include "model/body.h"

struct lambda_judge {
    struct body *body;
    struct issue_list issues;
};

struct lambda_judge *lambda_judge_new(void)
{
    struct lambda_judge *judge = mem_alloc(sizeof *judge);
    judge->body = mem_alloc(body_struct_bytes());
    return judge;
}

void lambda_judge_free(struct lambda_judge *judge)
{
    mem_free(judge->body);
    mem_free(judge);
}

static bool refuse(const struct issue_list *issues, char *why, size_t room)
{
    struct buf out;
    buf_init(&out, why, room - 1);
    issue_list_write(&out, "body", issues);
    why[out.bytes] = 0;
    return false;
}

bool lambda_judge_record(struct lambda_judge *judge, enum record_kind kind, struct slice payload,
                         int64_t default_time_ns, struct lambda_judged *judged, char *why,
                         size_t room)
{
    enum body_schema schema = kind == RECORD_LOG      ? SCHEMA_LOG
                              : kind == RECORD_METRIC ? SCHEMA_METRIC
                                                      : SCHEMA_EVENT;
    struct body_record record = {.event_time_ns = default_time_ns};
    *judged = (struct lambda_judged){default_time_ns, 0, {(const uint8_t *)"", 0}};
    if (payload.bytes == 0 || payload.data[0] != '{') {
        (void)snprintf(why, room, "a record is a JSON object");
        return false;
    }
    if (kind != RECORD_LOG && kind != RECORD_METRIC && kind != RECORD_EVENT) {
        return true;
    }
    body_open(judge->body, schema, SHAPE_OBJECT, payload.data, payload.bytes, default_time_ns);
    judge->issues.count = 0;
    enum body_result result = body_next(judge->body, &record, &judge->issues);
    if (result == BODY_REJECT || result == BODY_INVALID) {
        return refuse(&judge->issues, why, room);
    }
    if (result != BODY_RECORD) {
        (void)snprintf(why, room, "a record of another dialect");
        return false;
    }
    judged->event_time_ns = record.event_time_ns;
    judged->severity = record.severity;
    if (record.dedup_key.bytes > 0) {
        judged->event_id = record.dedup_key;
    }
    return true;
}
