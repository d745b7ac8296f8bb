/*
 * shape_memo: what the last objects of one schema looked like between their values. Private to the
 * room. Pure; one owner; no allocation.
 *
 * Records of one source have the same keys in the same order, written by the same encoder. So the
 * bytes from the end of one value to the beginning of the next, a piece such as `,"service":"`, are
 * those of the record before, and one comparison says all that reading them would: the comma, the
 * key, that it is plain, which field it names, that it is none of the keys before it, the colon,
 * and the opening quote.
 *
 * Nothing is believed that was not compared: pieces are learned from members that passed the whole
 * validation, hold only printable ASCII without backslashes (so they mean the same on a line of
 * NDJSON as anywhere else), and no two of one memo have the same key. So a memo may outlive the
 * body that taught it. Any prefix of the pieces is a memo, too; a record that departs from it is
 * read member by member from there on. It teaches the rest anew only when the records before it
 * departed as well: of several shapes that come mixed one stays known, and the others cost no
 * learning that the next record undoes.
 *
 * Zeroed memory is an empty memo.
 */
#ifndef MODEL_SHAPE_MEMO_H
#define MODEL_SHAPE_MEMO_H

#include <string.h>

#include "core/base.h"
#include "model/schema.h"

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#define SHAPE_PIECE_BYTES_MAX 32u /* a key of 27 bytes in compact JSON; two loads of 16 */
#define SHAPE_PIECES_MAX      16u
/* So many in a row do not make a new shape yet. */
#define SHAPE_DEPARTURES_MAX 4u

struct shape_piece {
    uint8_t text[SHAPE_PIECE_BYTES_MAX];
    uint32_t needed; /* bit i: text[i] counts */
    uint32_t seen;   /* FIELD_BIT of this one's field and of all before it */
    enum field field;
    uint8_t bytes;
    uint8_t key_at; /* in text */
    uint8_t key_bytes;
    bool is_string; /* ends with the opening quote of its value; else where the value begins */
};

struct shape_memo {
    uint32_t count;
    uint32_t departures;               /* records in a row that were not as remembered */
    uint32_t starts[SHAPE_PIECES_MAX]; /* where the pieces were met in the object being read */
    struct shape_piece pieces[SHAPE_PIECES_MAX];
};

/* A member as it was read: text is everything from the value before it (or the brace, which is
 * included) to its own value, with the opening quote of that when is_string. */
struct shape_member {
    struct slice text;
    struct slice key; /* inside text */
    enum field field;
    bool is_string;
};

/* Makes member the piece number n (n <= count), which is then the last. False, and nothing changes:
 * it cannot be one. */
bool shape_memo_learn(struct shape_memo *memo, uint32_t n, const struct shape_member *member);

/* A record departs from the memo after taken pieces: shall it teach the rest? What only goes on
 * where the memo ends takes nothing away. */
static inline bool shape_memo_departs(struct shape_memo *memo, uint32_t taken)
{
    if (taken == memo->count) {
        return true;
    }
    bool is_enough = memo->departures == SHAPE_DEPARTURES_MAX;
    memo->departures = is_enough ? 0 : memo->departures + 1;
    return is_enough;
}

/* The key of a piece that was met, in the body that data is. */
static inline struct slice shape_memo_key(const struct shape_memo *memo, uint32_t n,
                                          const uint8_t *data)
{
    const struct shape_piece *piece = &memo->pieces[n];
    return (struct slice){data + memo->starts[n] + piece->key_at, piece->key_bytes};
}

/* Whether the left bytes at p begin with piece. */
static inline bool shape_piece_is_at(const struct shape_piece *piece, const uint8_t *p,
                                     uint32_t left)
{
#if defined(__SSE2__)
    if (LIKELY(left >= SHAPE_PIECE_BYTES_MAX)) {
        const __m128i *text = (const void *)piece->text;
        const __m128i *there = (const void *)p;
        __m128i front = _mm_cmpeq_epi8(_mm_loadu_si128(text), _mm_loadu_si128(there));
        __m128i back = _mm_cmpeq_epi8(_mm_loadu_si128(text + 1), _mm_loadu_si128(there + 1));
        uint32_t equal = (uint32_t)_mm_movemask_epi8(front) | (uint32_t)_mm_movemask_epi8(back)
                                                                  << 16;
        return (~equal & piece->needed) == 0;
    }
#endif
    return left >= piece->bytes && memcmp(piece->text, p, piece->bytes) == 0;
}

#endif
