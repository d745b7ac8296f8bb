#include "forward/metric_fields.h"

#include <string.h>

#include "model/json_scan.h"
#include "model/lookup_object.h"

#define TAG_PREFIX SLICE_LITERAL("tag_")

static bool is_key(struct slice key, const char *text)
{
    return slice_equal(key, (struct slice){(const uint8_t *)text, strlen(text)});
}

static uint8_t *scratch_room(struct metric_fields *fields, size_t bytes)
{
    if (bytes > sizeof fields->scratch - fields->scratch_bytes) {
        return NULL;
    }
    uint8_t *room = fields->scratch + fields->scratch_bytes;
    fields->scratch_bytes += bytes;
    return room;
}

/* Undoes the escapes of *text in scratch. What it becomes is never longer than what it was. */
static int plain(struct metric_fields *fields, bool has_escape, struct slice *text, struct err *err)
{
    if (!has_escape) {
        return 0;
    }
    /* Four more: lookup_object_unescape stops where less than that is left. */
    uint8_t *room = scratch_room(fields, text->bytes + 4);
    if (room == NULL) {
        return err_set(err, ERR_UNSUPPORTED, "the metric has more than %u bytes of escaped text",
                       METRIC_SCRATCH_BYTES);
    }
    struct slice rest = *text;
    *text = (struct slice){room, lookup_object_unescape(&rest, room, text->bytes + 4)};
    return 0;
}

int metric_fields_add(struct metric_fields *fields, struct slice key, struct slice value,
                      struct err *err)
{
    if (value.bytes == 0) {
        return 0;
    }
    if (key.bytes == 0) {
        return err_set(err, ERR_UNSUPPORTED, "the metric has a tag without a key");
    }
    if (fields->label_count == METRIC_LABELS_MAX) {
        return err_set(err, ERR_UNSUPPORTED, "the metric has more than %u labels",
                       METRIC_LABELS_MAX);
    }
    fields->labels[fields->label_count++] = (struct metric_label){key, value};
    return 0;
}

static int rename_reserved(struct metric_fields *fields, struct slice *key, struct err *err)
{
    const struct slice prefix = TAG_PREFIX;
    uint8_t *room = scratch_room(fields, prefix.bytes + key->bytes);
    if (room == NULL) {
        return err_set(err, ERR_UNSUPPORTED, "the metric has more than %u bytes of reserved keys",
                       METRIC_SCRATCH_BYTES);
    }
    memcpy(room, prefix.data, prefix.bytes);
    memcpy(room + prefix.bytes, key->data, key->bytes);
    *key = (struct slice){room, prefix.bytes + key->bytes};
    return 0;
}

static int add_tag(struct metric_fields *fields, const struct lookup_member *member,
                   metric_is_reserved is_reserved, struct err *err)
{
    struct slice key = member->key;
    struct slice value = member->value;
    int r = plain(fields, member->key_has_escape, &key, err);
    if (r < 0 || (!member->is_string && is_key(value, "null"))) {
        return r;
    }
    if (!member->is_string && (value.data[0] == '{' || value.data[0] == '[')) {
        return err_set(err, ERR_UNSUPPORTED, "the tag '%.*s' is no text",
                       (int)u64_min(key.bytes, 100), (const char *)key.data);
    }
    r = plain(fields, member->value_has_escape, &value, err);
    if (r == 0 && value.bytes > 0 &&
        (is_key(key, "service") || is_key(key, "unit") || is_reserved(key))) {
        r = rename_reserved(fields, &key, err);
    }
    return r < 0 ? r : metric_fields_add(fields, key, value, err);
}

static int read_tags(struct metric_fields *fields, struct slice tags,
                     metric_is_reserved is_reserved, struct err *err)
{
    struct lookup_object object;
    struct lookup_member member;
    if (!lookup_object_open(&object, tags)) {
        return is_key(tags, "null")
                   ? 0
                   : err_set(err, ERR_UNSUPPORTED, "the metric's tags are no object");
    }
    int more = lookup_object_next(&object, &member);
    int r = 0;
    while (more > 0 && r == 0) { /* each turn is a member on */
        r = add_tag(fields, &member, is_reserved, err);
        more = lookup_object_next(&object, &member);
    }
    if (r == 0 && more < 0) {
        return err_set(err, ERR_UNSUPPORTED, "the metric's tags cannot be read");
    }
    return r;
}

struct found {
    struct slice tags;
    bool has_name, has_value;
};

static int take_member(struct metric_fields *fields, struct lookup_member *member,
                       struct found *found, struct err *err)
{
    int r = plain(fields, member->key_has_escape, &member->key, err);
    if (r < 0) {
        return r;
    }
    if (is_key(member->key, "value")) {
        fields->value = member->value;
        found->has_value = !member->is_string;
    } else if (is_key(member->key, "tags") && !member->is_string) {
        found->tags = member->value;
    } else if (member->is_string && is_key(member->key, "name")) {
        fields->name = member->value;
        found->has_name = true;
        return plain(fields, member->value_has_escape, &fields->name, err);
    } else if (member->is_string && is_key(member->key, "service")) {
        fields->service = member->value;
        return plain(fields, member->value_has_escape, &fields->service, err);
    } else if (member->is_string && is_key(member->key, "unit")) {
        fields->unit = member->value;
        return plain(fields, member->value_has_escape, &fields->unit, err);
    }
    return 0;
}

static bool is_number(struct slice text)
{
    uint64_t offset;
    const char *why;
    return text.bytes > 0 &&
           (text.data[0] == '-' || (text.data[0] >= '0' && text.data[0] <= '9')) &&
           json_validate(text.data, text.bytes, &offset, &why) == 0;
}

/* The top level. */
static int read_members(struct metric_fields *fields, struct slice payload, struct found *found,
                        struct err *err)
{
    struct lookup_object object;
    struct lookup_member member;
    if (!lookup_object_open(&object, payload)) {
        return err_set(err, ERR_UNSUPPORTED, "the metric is no JSON object");
    }
    int more = lookup_object_next(&object, &member);
    int r = 0;
    while (more > 0 && r == 0) { /* each turn is a member on */
        r = take_member(fields, &member, found, err);
        more = lookup_object_next(&object, &member);
    }
    return r == 0 && more < 0 ? err_set(err, ERR_UNSUPPORTED, "the metric cannot be read") : r;
}

int metric_fields_read(struct metric_fields *fields, struct slice payload,
                       metric_is_reserved is_reserved, struct err *err)
{
    const struct slice none = {(const uint8_t *)"", 0};
    struct found found = {.tags = SLICE_LITERAL("null")};
    fields->name = fields->value = fields->service = fields->unit = none;
    fields->label_count = 0;
    fields->scratch_bytes = 0;
    int r = read_members(fields, payload, &found, err);
    if (r < 0) {
        return r;
    }
    if (!found.has_name || fields->name.bytes == 0) {
        return err_set(err, ERR_UNSUPPORTED, "the metric has no name");
    }
    if (!found.has_value || !is_number(fields->value)) {
        return err_set(err, ERR_UNSUPPORTED, "the metric's value is no number");
    }
    r = metric_fields_add(fields, SLICE_LITERAL("service"), fields->service, err);
    r = r < 0 ? r : metric_fields_add(fields, SLICE_LITERAL("unit"), fields->unit, err);
    return r < 0 ? r : read_tags(fields, found.tags, is_reserved, err);
}

static int compare(struct slice a, struct slice b)
{
    int order = memcmp(a.data, b.data, u64_min(a.bytes, b.bytes));
    return order != 0 ? order : (a.bytes > b.bytes) - (a.bytes < b.bytes);
}

int metric_fields_sort(struct metric_fields *fields, struct err *err)
{
    struct metric_label *labels = fields->labels;
    /* By insertion: a handful, and often in order already. */
    for (unsigned i = 1; i < fields->label_count; i++) {
        struct metric_label label = labels[i];
        unsigned at = i;
        while (at > 0 && compare(labels[at - 1].key, label.key) > 0) {
            labels[at] = labels[at - 1];
            at--;
        }
        labels[at] = label;
    }
    for (unsigned i = 1; i < fields->label_count; i++) {
        if (compare(labels[i - 1].key, labels[i].key) == 0) {
            return err_set(err, ERR_UNSUPPORTED, "the metric has the label '%.*s' twice",
                           (int)u64_min(labels[i].key.bytes, 100),
                           (const char *)labels[i].key.data);
        }
    }
    return 0;
}
