#include "model/shape_memo.h"

_Static_assert(SHAPE_PIECE_BYTES_MAX == 32, "the bits of needed, and two registers of 16 bytes");

static bool text_is_plain(struct slice text)
{
    for (size_t i = 0; i < text.bytes; i++) {
        uint8_t c = text.data[i];
        if (c < 0x20 || c >= 0x7f || c == '\\') {
            return false;
        }
    }
    return true;
}

bool shape_memo_learn(struct shape_memo *memo, uint32_t n, const struct shape_member *member)
{
    ASSERT(n <= memo->count);
    struct slice text = member->text;
    ASSERT(text.bytes >= sizeof "{\"\":" - 1);
    if (n == SHAPE_PIECES_MAX || text.bytes > SHAPE_PIECE_BYTES_MAX || !text_is_plain(text)) {
        return false;
    }
    size_t key_at = (size_t)(member->key.data - text.data);
    ASSERT(key_at + member->key.bytes < text.bytes);
    uint32_t seen = n > 0 ? memo->pieces[n - 1].seen : 0;
    struct shape_piece *piece = &memo->pieces[n];
    *piece = (struct shape_piece){
        .needed = UINT32_MAX >> (SHAPE_PIECE_BYTES_MAX - text.bytes),
        .seen = member->field < FIELD_COUNT ? seen | FIELD_BIT(member->field) : seen,
        .field = member->field,
        .bytes = (uint8_t)text.bytes,
        .key_at = (uint8_t)key_at,
        .key_bytes = (uint8_t)member->key.bytes,
        .is_string = member->is_string,
    };
    memcpy(piece->text, text.data, text.bytes);
    memo->starts[n] = 0;
    memo->count = n + 1;
    return true;
}
