/*
 * crc32c: Castagnoli, as in RFC 3720 §12.1 (reflected, initial and final complement). Hardware
 * (SSE4.2, three interleaved streams for long inputs) where the CPU has it, a table-driven twin
 * where not; both are tested equal. crc32c(0, p, n) starts; feed the result back in to go on:
 * crc32c(crc32c(0, a), b) == crc32c(0, a||b). Pure.
 */
#ifndef CORE_CRC32C_H
#define CORE_CRC32C_H

#include "core/base.h"

uint32_t crc32c(uint32_t seed, const void *data, size_t bytes);

/* Copies and checks in one pass over memory: the batch copy is the log's only copy. Ranges must not
 * overlap. */
uint32_t crc32c_copy(uint32_t seed, void *restrict to, const void *restrict from, size_t bytes);

/* The scalar twin, for tests and for machines without SSE4.2. */
uint32_t crc32c_scalar(uint32_t seed, const void *data, size_t bytes);

#endif
