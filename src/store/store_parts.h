/*
 * store_parts: what a store consists of; for the files that make up its door (store.c,
 * store_readers.c) and for nobody else.
 */
#ifndef STORE_STORE_PARTS_H
#define STORE_STORE_PARTS_H

#include "core/agent.h"
#include "core/park.h"
#include "store/archive.h"
#include "store/dedup.h"
#include "store/file_io.h"
#include "store/keeper.h"
#include "store/lineage.h"
#include "store/node.h"
#include "store/origins.h"
#include "store/store.h"
#include "store/store_readers.h"
#include "store/writer.h"

struct store {
    struct store_status status;
    struct park writer_park;
    struct park archive_park;
    struct keeper keeper;
    struct writer writer;
    struct archive *archive;
    int nice; /* the process's own, which the archive takes while it hurries */
    struct store_readers readers;
    struct agent writer_agent;
    struct agent keeper_agent;
    struct agent archive_agent;
    struct store_port ports[STORE_SHARDS_MAX];
    struct store_options options;
    struct file_io *io;
    struct dedup *dedup;
    struct origins *origins;
    struct node_lock lock;
    struct ulid node;
    struct lineage lineage;
    bool owns_io;
    bool is_started;
    bool is_single;
    bool has_keeper;
    bool has_writer;
    bool has_archive_agent;
};

#endif
