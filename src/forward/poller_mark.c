#include "forward/poller_mark.h"

#include <errno.h>
#include <string.h>

#include "core/buf.h"

static void put_value(struct buf *out, const struct poller_value *value)
{
    if (value->is_null) {
        buf_put_text(out, "-,");
        return;
    }
    buf_put_u64(out, value->text.bytes);
    buf_put_char(out, ':');
    buf_put_slice(out, value->text);
    buf_put_char(out, ',');
}

int poller_mark_encode(struct poller_mark *mark, struct slice table,
                       const struct poller_value *keys, unsigned count)
{
    uint8_t text[WATERMARK_MARK_MAX];
    struct buf out;
    struct poller_value of_table = {.text = table};
    ASSERT(count <= POLLER_KEYS_MAX);
    buf_init(&out, text, sizeof text);
    buf_put_text(&out, "1;");
    put_value(&out, &of_table);
    for (unsigned i = 0; i < count; i++) {
        put_value(&out, &keys[i]);
    }
    if (out.is_truncated) {
        return -ENAMETOOLONG;
    }
    memcpy(mark->data, text, out.bytes);
    mark->bytes = out.bytes;
    return 0;
}

/* Takes one value off the front of *rest. */
static int take_value(struct slice *rest, struct poller_value *value)
{
    size_t at = 0;
    size_t bytes = 0;
    if (rest->bytes >= 2 && rest->data[0] == '-' && rest->data[1] == ',') {
        *value = (struct poller_value){.is_null = true};
        *rest = (struct slice){rest->data + 2, rest->bytes - 2};
        return 0;
    }
    while (at < rest->bytes && at < 5 && rest->data[at] >= '0' && rest->data[at] <= '9') {
        bytes = bytes * 10 + (size_t)(rest->data[at] - '0');
        at++;
    }
    if (at == 0 || at + bytes + 2 > rest->bytes || rest->data[at] != ':' ||
        rest->data[at + 1 + bytes] != ',') {
        return -EINVAL;
    }
    *value = (struct poller_value){.text = {rest->data + at + 1, bytes}};
    *rest = (struct slice){rest->data + at + bytes + 2, rest->bytes - at - bytes - 2};
    return 0;
}

int poller_mark_decode(const struct poller_mark *mark, struct slice table,
                       struct poller_value *keys, unsigned count)
{
    struct slice rest = {mark->data, mark->bytes};
    struct poller_value of_table;
    ASSERT(count <= POLLER_KEYS_MAX);
    if (rest.bytes < 2 || memcmp(rest.data, "1;", 2) != 0) {
        return -EINVAL;
    }
    rest = (struct slice){rest.data + 2, rest.bytes - 2};
    if (take_value(&rest, &of_table) < 0 || of_table.is_null ||
        !slice_equal(of_table.text, table)) {
        return -EINVAL;
    }
    for (unsigned i = 0; i < count; i++) {
        if (take_value(&rest, &keys[i]) < 0) {
            return -EINVAL;
        }
    }
    return rest.bytes == 0 && (count == 0 || !keys[0].is_null) ? 0 : -EINVAL;
}

bool poller_mark_equal(const struct poller_mark *a, const struct poller_mark *b)
{
    return slice_equal((struct slice){a->data, a->bytes}, (struct slice){b->data, b->bytes});
}
