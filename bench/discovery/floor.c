// What finding VMs takes at the least: reads every link of every process's descriptors, and counts those of VMs and of vCPUs.
// Prints both and the microseconds, the median of as many rounds as its argument says.
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { most_rounds = 1000 };

static int vms, vcpus;

static double now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

static bool is_number(const char *name)
{
    return name[0] >= '0' && name[0] <= '9';
}

static void read_links(int processes, const char *process)
{
    char path[300], link[64];
    snprintf(path, sizeof path, "%s/fd", process);
    int descriptor = openat(processes, path, O_RDONLY | O_DIRECTORY);
    DIR *directory = descriptor < 0 ? NULL : fdopendir(descriptor);
    if (!directory)
        return;
    for (struct dirent *entry; (entry = readdir(directory));) {
        if (!is_number(entry->d_name))
            continue;
        ssize_t length = readlinkat(descriptor, entry->d_name, link, sizeof link - 1);
        link[length < 0 ? 0 : length] = 0;
        vms += !strcmp(link, "anon_inode:kvm-vm");
        vcpus += !strncmp(link, "anon_inode:kvm-vcpu:", 20);
    }
    closedir(directory);
}

static void read_all(void)
{
    vms = vcpus = 0;
    DIR *directory = opendir("/proc");
    for (struct dirent *entry; (entry = readdir(directory));) {
        if (is_number(entry->d_name))
            read_links(dirfd(directory), entry->d_name);
    }
    closedir(directory);
}

static int compare(const void *one, const void *other)
{
    double difference = *(const double *)one - *(const double *)other;
    return (difference > 0) - (difference < 0);
}

int main(int arguments, char **values)
{
    static double took[most_rounds];
    int rounds = arguments > 1 ? atoi(values[1]) : 1;
    if (rounds < 1 || rounds > most_rounds)
        return 2;
    for (int i = 0; i < rounds; i++) {
        double began = now_us();
        read_all();
        took[i] = now_us() - began;
    }
    qsort(took, (size_t)rounds, sizeof *took, compare);
    printf("%d %d %.0f\n", vms, vcpus, took[rounds / 2]);
}
