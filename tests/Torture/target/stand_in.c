#define _GNU_SOURCE
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "checks.h"
#include "parts.h"

enum { most_terminals = 512 };

static int terminals[most_terminals];
static struct check *size_check;

_Static_assert(sizeof(struct winsize) == sizeof(int64_t), "");

void create_terminals(void)
{
    size_check = new_check("sizes of terminals");
    size_check->idle = true;
    for (int i = 0; i < options.vcpus && i < most_terminals; i++) {
        terminals[i] = posix_openpt(O_RDWR | O_NOCTTY);
        if (terminals[i] < 0 || ioctl(terminals[i], TIOCSWINSZ, &options.offsets[0]))
            die("posix_openpt");
    }
}

void print_terminals(FILE *to)
{
    for (int i = 0; i < options.vcpus && options.stand_in; i++)
        fprintf(to, "%s%d", i ? "," : "", terminals[i]);
    fprintf(to, "\n");
}

void print_sizes(FILE *to)
{
    int matching[2] = { 0, 0 };
    fprintf(to, "{\"offsets\":[");
    for (int i = 0; i < options.vcpus; i++) {
        int64_t size = 0;
        if (ioctl(terminals[i], TIOCGWINSZ, &size))
            deviation(size_check, "TIOCGWINSZ failed");
        fprintf(to, "%s%" PRId64, i ? "," : "", size);
        matching[0] += size == options.offsets[0];
        matching[1] += size == options.offsets[1];
    }
    fprintf(to, "]}\n");
    fflush(to);
    if (options.expects_offsets && matching[0] != options.vcpus && matching[1] != options.vcpus)
        deviation(size_check, "of %d terminals, %d have one size and %d the other", options.vcpus, matching[0], matching[1]);
    held(size_check);
}
