/*
 * encoder: see protocol.h. The frame around a protocol's begin, add and end: limits, counting, and taking back a
 * record that does not fit. One owner; fails by ERR_LIMIT and ERR_UNSUPPORTED.
 */
#include "forward/protocol.h"

#include <string.h>

void encoder_open(struct encoder *encoder, const struct config_sink *sink, struct ulid node)
{
    ASSERT(sink != NULL);
    memset(encoder, 0, sizeof(*encoder));
    encoder->protocol = protocol_of(sink->type);
    encoder->sink = sink;
    encoder->node = node;
    body_init(&encoder->body, FORWARD_BODY_MAX);
    body_init(&encoder->side, FORWARD_BODY_MAX);
}

void encoder_close(struct encoder *encoder)
{
    body_free(&encoder->body);
    body_free(&encoder->side);
}

static void encoder_reset(struct encoder *encoder)
{
    body_reset(&encoder->body);
    body_reset(&encoder->side);
    encoder->key = NULL;
    encoder->record_count = 0;
    encoder->item_count = 0;
    encoder->state = 0;
    encoder->end_bytes = ENCODER_END_BYTES;
    encoder->is_refreezing = false;
    encoder->covered_kinds = 0;
    encoder->first_lsn = 0;
    encoder->last_lsn = 0;
    encoder->segment_id = 0;
    encoder->segment_suffix = NULL;
}

void encoder_begin(struct encoder *encoder, int64_t frozen_at_ns)
{
    ASSERT(!encoder->protocol->takes_segments);
    encoder_reset(encoder);
    encoder->frozen_at_ns = frozen_at_ns;
    encoder->protocol->begin(encoder);
}

/* What a record that is not taken must leave as it was. */
struct encoder_mark {
    size_t body_bytes;
    size_t side_bytes;
    uint64_t state;
    uint32_t record_count;
    uint32_t item_count;
};

static struct encoder_mark mark_of(const struct encoder *encoder)
{
    return (struct encoder_mark){encoder->body.bytes, encoder->side.bytes, encoder->state,
                                 encoder->record_count, encoder->item_count};
}

static void take_back(struct encoder *encoder, const struct encoder_mark *mark)
{
    body_cut(&encoder->body, mark->body_bytes);
    body_cut(&encoder->side, mark->side_bytes);
    encoder->state = mark->state;
    encoder->record_count = mark->record_count;
    encoder->item_count = mark->item_count;
}

/* The request would be full with one record more, whatever it is. */
static bool is_full(const struct encoder *encoder)
{
    uint32_t records_max = encoder->protocol->records_max;
    if (encoder->record_count == 0 || encoder->is_refreezing) {
        return false;
    }
    return encoder->record_count >= encoder->sink->batch_records ||
           (records_max != 0 && encoder->record_count >= records_max);
}

/* What can never be passed. */
static uint64_t bytes_max(const struct encoder *encoder)
{
    uint64_t most = encoder->protocol->body_max;
    return most == 0 ? FORWARD_BODY_MAX : u64_min(most, FORWARD_BODY_MAX);
}

static bool is_too_large(const struct encoder *encoder, bool is_first)
{
    uint64_t bytes = (uint64_t)encoder->body.bytes + encoder->side.bytes + encoder->end_bytes;
    bool is_free = is_first || encoder->is_refreezing;
    uint64_t most = is_free ? UINT64_MAX : encoder->sink->batch_bytes;
    return encoder->body.is_over || encoder->side.is_over ||
           bytes > u64_min(most, bytes_max(encoder));
}

int encoder_add(struct encoder *encoder, const struct forward_record *record, struct err *err)
{
    if (is_full(encoder)) {
        return ERR_LIMIT;
    }
    struct encoder_mark mark = mark_of(encoder);
    bool is_first = mark.record_count == 0;
    int r = encoder->protocol->add(encoder, record, err);
    if (r == 0 && is_too_large(encoder, is_first)) {
        r = ERR_LIMIT;
    }
    if (r < 0) {
        take_back(encoder, &mark);
        if (r == ERR_LIMIT && is_first) {
            return err_set(err, ERR_UNSUPPORTED,
                           "a record of %zu bytes: larger than any request to this upstream may be "
                           "(%llu bytes)",
                           record->record.payload.bytes, (unsigned long long)bytes_max(encoder));
        }
        return r;
    }
    encoder->record_count = mark.record_count + 1;
    encoder->item_count += encoder->item_count == mark.item_count;
    return 0;
}

void encoder_end(struct encoder *encoder, const char *key, uint64_t first_lsn, uint64_t last_lsn)
{
    ASSERT(key != NULL && strlen(key) < FORWARD_KEY_BYTES);
    ASSERT(first_lsn <= last_lsn);
    encoder->key = key;
    encoder->first_lsn = first_lsn;
    encoder->last_lsn = last_lsn;
    if (!encoder->protocol->takes_segments) {
        encoder->protocol->end(encoder);
        /* add kept end_bytes of room for it. */
        ASSERT(!encoder->body.is_over);
    }
}

void encoder_segment(struct encoder *encoder, uint64_t segment_id, const char *suffix,
                     uint32_t record_count)
{
    ASSERT(encoder->protocol->takes_segments);
    encoder_reset(encoder);
    encoder->segment_id = segment_id;
    encoder->segment_suffix = suffix;
    encoder->record_count = record_count;
    encoder->item_count = record_count;
}
