/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "adapters/store/wal-check.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "util/cleanup.h"

/* https://www.sqlite.org/fileformat2.html, "The Write-Ahead Log". All numbers are big-endian; the checksum reads words
 * in the order that the magic number's last bit says. */
#define WAL_HEADER_SIZE 32U
#define WAL_FRAME_HEADER_SIZE 24U
#define WAL_MAGIC UINT32_C(0x377f0682)
#define WAL_VERSION UINT32_C(3007000)
#define WAL_PAGE_SIZE_MIN 512U
#define WAL_PAGE_SIZE_MAX 65536U

typedef struct WalSum {
        uint32_t a;
        uint32_t b;
} WalSum;

static uint32_t word_big(const uint8_t *bytes) {
        return (uint32_t) bytes[0] << 24 | (uint32_t) bytes[1] << 16 | (uint32_t) bytes[2] << 8 | bytes[3];
}

static uint32_t word_little(const uint8_t *bytes) {
        return (uint32_t) bytes[3] << 24 | (uint32_t) bytes[2] << 16 | (uint32_t) bytes[1] << 8 | bytes[0];
}

static WalSum sum_add(WalSum sum, bool big, const uint8_t *bytes, size_t size) {
        for (size_t i = 0; i + 8 <= size; i += 8) {
                sum.a += (big ? word_big(bytes + i) : word_little(bytes + i)) + sum.b;
                sum.b += (big ? word_big(bytes + i + 4) : word_little(bytes + i + 4)) + sum.a;
        }
        return sum;
}

static WalSum sum_add_frame(WalSum sum, bool big, const uint8_t *frame, size_t page_size) {
        sum = sum_add(sum, big, frame, 8);
        return sum_add(sum, big, frame + WAL_FRAME_HEADER_SIZE, page_size);
}

static bool sum_is(WalSum sum, const uint8_t *stored) {
        return word_big(stored) == sum.a && word_big(stored + 4) == sum.b;
}

/* Returns the bytes read, fewer than @size only at the end of the file, or -errno. */
static ssize_t read_at(int fd, void *buffer, size_t size, off_t offset) {
        size_t have = 0;

        while (have < size) {
                ssize_t n = pread(fd, (uint8_t *) buffer + have, size - have, offset + (off_t) have);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                if (n == 0)
                        break;
                have += (size_t) n;
        }
        return (ssize_t) have;
}

static bool all_zero(const uint8_t *bytes, size_t size) {
        for (size_t i = 0; i < size; i++)
                if (bytes[i] != 0)
                        return false;
        return true;
}

/* A run is a stretch of frames whose checksums continue each other, begun by a damaged frame, which passes on both the
 * checksum it carries and the one it ought to carry (either may be what was damaged). The second commit in a run was
 * begun after the first was on disk. Frames of an earlier round of the log carry other salts; each begins a run. */
static int check_frames(int fd, const uint8_t header[static WAL_HEADER_SIZE], size_t page_size, bool big) {
        size_t frame_size = WAL_FRAME_HEADER_SIZE + page_size;
        _cleanup_free_ uint8_t *frame = malloc(frame_size);
        WalSum carried = { .a = word_big(header + 24), .b = word_big(header + 28) };
        WalSum computed = carried;
        bool damage = false;
        unsigned commits = 0;

        if (!frame)
                return -ENOMEM;

        for (off_t offset = WAL_HEADER_SIZE;; offset += (off_t) frame_size) {
                ssize_t n = read_at(fd, frame, frame_size, offset);
                if (n < 0)
                        return (int) n;
                if ((size_t) n < frame_size)
                        return WAL_WHOLE;       /* an incomplete frame was never committed */

                carried = sum_add_frame(carried, big, frame, page_size);
                computed = sum_add_frame(computed, big, frame, page_size);
                bool continues = memcmp(frame + 8, header + 16, 8) == 0 &&
                                 (sum_is(carried, frame + 16) || sum_is(computed, frame + 16));
                if (!continues) {
                        damage = true;
                        commits = 0;
                }
                carried = (WalSum) { .a = word_big(frame + 16), .b = word_big(frame + 20) };
                if (continues)
                        computed = carried;
                if (damage && word_big(frame + 4) != 0)
                        commits++;
                if (commits >= 2)
                        return WAL_DAMAGED;
        }
}

int wal_check(const char *path) {
        uint8_t start[4096];

        _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        if (fd < 0)
                return errno == ENOENT ? WAL_ABSENT : -errno;

        ssize_t n = read_at(fd, start, sizeof(start), 0);
        if (n < 0)
                return (int) n;
        /* The header shares its first disk block with the first frame: nothing of a commit is lost with it. */
        if (n < (ssize_t) WAL_HEADER_SIZE || all_zero(start, (size_t) n))
                return WAL_ABSENT;

        size_t page_size = word_big(start + 8);
        if ((word_big(start) & ~UINT32_C(1)) != WAL_MAGIC || word_big(start + 4) != WAL_VERSION ||
            page_size < WAL_PAGE_SIZE_MIN || page_size > WAL_PAGE_SIZE_MAX || (page_size & (page_size - 1)) != 0)
                return WAL_DAMAGED;

        bool big = word_big(start) & 1;
        if (!sum_is(sum_add((WalSum) {}, big, start, 24), start + 24))
                return WAL_DAMAGED;
        return check_frames(fd, start, page_size, big);
}
