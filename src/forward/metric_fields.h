/*
 * metric_fields: a metric record as time series databases want it: a name, the digits of its value, and labels (service,
 * unit, every tag), sorted by key so that the same metric always looks the same. Private to the protocols that say
 * metrics. Pure; no allocation. The record was judged when it came in; here it is read, never trusted: whatever the
 * bytes are, nothing outside them is looked at.
 *
 * Texts have their escapes undone. A label without a value is no label (so all these databases see it) and is left
 * out. A tag whose key means something else to the upstream is called tag_KEY.
 */
#ifndef FORWARD_METRIC_FIELDS_H
#define FORWARD_METRIC_FIELDS_H

#include "core/base.h"
#include "core/err.h"

#define METRIC_LABELS_MAX    128u
#define METRIC_SCRATCH_BYTES 16384u

struct metric_label {
    struct slice key;
    struct slice value;
};

/* Large and mostly uninitialised on purpose: on the stack of an add, once per record. */
struct metric_fields {
    struct slice name;
    struct slice value; /* the client's own digits: a JSON number */
    struct slice service;
    struct slice unit; /* these two are labels as well; empty: none */
    struct metric_label labels[METRIC_LABELS_MAX];
    unsigned label_count;
    size_t scratch_bytes;
    uint8_t scratch[METRIC_SCRATCH_BYTES];
};

/* True for a tag's key that the upstream keeps for itself. service and unit are always kept. */
typedef bool (*metric_is_reserved)(struct slice key);

/* 0, or ERR_UNSUPPORTED with a text for people: no object, no name, no number, too many labels, a tag that is an object,
 * a tag without a key. Slices point into payload or fields->scratch. Then metric_fields_add for what the protocol adds, then
 * metric_fields_sort. */
int metric_fields_read(struct metric_fields *fields, struct slice payload,
                       metric_is_reserved is_reserved, struct err *err) MUST_USE;
/* key and value must outlive fields. */
int metric_fields_add(struct metric_fields *fields, struct slice key, struct slice value,
                      struct err *err) MUST_USE;
/* ERR_UNSUPPORTED: two labels have the same key. */
int metric_fields_sort(struct metric_fields *fields, struct err *err) MUST_USE;

#endif
