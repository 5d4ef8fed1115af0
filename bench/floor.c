// What a thing takes at the least, as microseconds, the median of ROUNDS, and how many VMs and vCPUs it found:
// floor vms ROUNDS        reads every link of every process's descriptors
// floor offsets ROUNDS    reads the offset of every vCPU in debugfs
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

static bool is_digit(char first)
{
    return first >= '0' && first <= '9';
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
        if (!is_digit(entry->d_name[0]))
            continue;
        ssize_t length = readlinkat(descriptor, entry->d_name, link, sizeof link - 1);
        link[length < 0 ? 0 : length] = 0;
        vms += !strcmp(link, "anon_inode:kvm-vm");
        vcpus += !strncmp(link, "anon_inode:kvm-vcpu:", 20);
    }
    closedir(directory);
}

static void read_offset(int vm, const char *vcpu)
{
    char path[300], text[32];
    snprintf(path, sizeof path, "%s/tsc-offset", vcpu);
    int file = openat(vm, path, O_RDONLY);
    ssize_t length = file < 0 ? -1 : read(file, text, sizeof text - 1);
    if (length > 0) {
        text[length] = 0;
        vcpus += strtoll(text, NULL, 10) != 0;
    }
    if (file >= 0)
        close(file);
}

static void read_vcpus(int root, const char *vm)
{
    int descriptor = openat(root, vm, O_RDONLY | O_DIRECTORY);
    DIR *directory = descriptor < 0 ? NULL : fdopendir(descriptor);
    if (!directory)
        return;
    vms++;
    for (struct dirent *entry; (entry = readdir(directory));) {
        if (!strncmp(entry->d_name, "vcpu", 4))
            read_offset(descriptor, entry->d_name);
    }
    closedir(directory);
}

static void read_numbered(const char *root, void (*read_one)(int, const char *))
{
    vms = vcpus = 0;
    DIR *directory = opendir(root);
    if (!directory) {
        perror(root);
        exit(1);
    }
    for (struct dirent *entry; (entry = readdir(directory));) {
        if (is_digit(entry->d_name[0]))
            read_one(dirfd(directory), entry->d_name);
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
    int rounds = arguments > 2 ? atoi(values[2]) : 0;
    if (rounds < 1 || rounds > most_rounds)
        return 2;
    bool offsets = !strcmp(values[1], "offsets");
    for (int i = 0; i < rounds; i++) {
        double began = now_us();
        if (offsets)
            read_numbered("/sys/kernel/debug/kvm", read_vcpus);
        else
            read_numbered("/proc", read_links);
        took[i] = now_us() - began;
    }
    qsort(took, (size_t)rounds, sizeof *took, compare);
    printf("%.0f %d %d\n", took[rounds / 2], vms, vcpus);
}
