/*
 * frame: one independent zstd frame that says how many bytes it holds: the unit in which compacted
 * segments are stored and read. No dictionary, no zstd checksum (the index has a CRC of the frame,
 * the batches inside have their own).
 *
 * A frame_writer and a frame_reader are contexts that are used again for every frame; each belongs
 * to one thread. Reading believes nothing: the frame must be one whole frame of exactly the given
 * sizes, or ERR_CORRUPT; no byte is written beyond raw_bytes.
 */
#ifndef STORE_FRAME_H
#define STORE_FRAME_H

#include "core/base.h"
#include "core/err.h"

#define FRAME_LEVEL_MIN 1
#define FRAME_LEVEL_MAX 19

struct frame_writer;
/* level: FRAME_LEVEL_MIN to FRAME_LEVEL_MAX. */
struct frame_writer *frame_writer_new(int level);
void frame_writer_free(struct frame_writer *writer);
/* Room that the frame of raw_bytes needs at most. Pure. */
uint64_t frame_bound(uint64_t raw_bytes);
/* Bytes of the frame; to has frame_bound(raw.bytes). Negative: -ENOMEM. */
int64_t frame_compress(struct frame_writer *writer, uint8_t *to, struct slice raw,
                       struct err *err) MUST_USE;

struct frame_reader;
struct frame_reader *frame_reader_new(void);
void frame_reader_free(struct frame_reader *reader);
/* Fills to with exactly raw_bytes. ERR_CORRUPT, -ENOMEM. */
int frame_decompress(struct frame_reader *reader, uint8_t *to, uint64_t raw_bytes,
                     struct slice frame, struct err *err) MUST_USE;

#endif
