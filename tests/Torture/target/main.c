// A program with a VM that checks itself from inside, to be attached to: none of its threads may notice. It does what its standard
// input says, a word a line:
//   status   prints all checks, as a line of JSON      offsets  has every vCPU's thread read its TSC offset, and prints them
//   maps     prints the numbers of mappings and descriptors, and a digest of the mappings' names and permissions: none may change
//   pause    has the vCPU threads wait in a futex      cont     has them run
//   clock    prints kvmclock, and the host's clocks at that moment
//   quit     ends; so does the end of the input. The exit status is 1 if anything was not as it has to be.
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <getopt.h>
#include <grp.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "checks.h"
#include "hold.h"
#include "parts.h"

enum { most_mappings = 4096 };

struct options options = { .vcpus = 4, .spinners = 2 };

pthread_t start_thread(void *(*run)(void *), void *argument)
{
    pthread_t thread;
    int error = pthread_create(&thread, NULL, run, argument);
    if (error) {
        errno = error;
        die("pthread_create");
    }
    return thread;
}

// --- mappings and descriptors

// But for sockets: a check connects to another all the while.
static int count_descriptors(void)
{
    int count = 0;
    char name[80];
    DIR *directory = opendir("/proc/self/fd");
    if (!directory)
        die("/proc/self/fd");
    for (struct dirent *entry; (entry = readdir(directory));) {
        ssize_t length = readlinkat(dirfd(directory), entry->d_name, name, sizeof name);
        count += length > 0 && (size_t)length < sizeof name && strncmp(name, "socket:", 7);
    }
    closedir(directory);
    return count;
}

// What is mapped, without the addresses: the heap and the stacks grow.
static int count_mappings(uint64_t *digest, int *executable)
{
    char line[512], permissions[5], name[256];
    int count = 0;
    *digest = *executable = 0;
    FILE *maps = fopen("/proc/self/maps", "r");
    if (!maps)
        die("/proc/self/maps");
    while (fgets(line, sizeof line, maps)) {
        name[0] = 0;
        if (sscanf(line, "%*s %4s %*s %*s %*s %255[^\n]", permissions, name) < 1)
            die("/proc/self/maps");
        uint64_t hash = 14695981039346656037u;
        for (const char *c = permissions; *c; c++)
            hash = (hash ^ (uint8_t)*c) * 1099511628211u;
        for (const char *c = name; *c; c++)
            hash = (hash ^ (uint8_t)*c) * 1099511628211u;
        *digest += hash;
        *executable += permissions[2] == 'x';
        count++;
    }
    fclose(maps);
    return count;
}

static void print_resources(void)
{
    uint64_t digest;
    int executable;
    pause_churn(true);
    int mappings = count_mappings(&digest, &executable), descriptors = count_descriptors();
    pause_churn(false);
    printf("{\"mappings\":%d,\"executable\":%d,\"digest\":%" PRIu64 ",\"descriptors\":%d}\n", mappings, executable, digest, descriptors);
    fflush(stdout);
}

// --- threads of the process's own

static void *watch(void *argument)
{
    (void)argument;
    for (;;) {
        sleep_ms(1000);
        find_stalled();
    }
    return NULL;
}

static void *exit_later(void *argument)
{
    (void)argument;
    sleep_ms(options.exit_after_ms);
    _exit(0);
}

static void become_user(void)
{
    if (setgroups(0, NULL) || setresgid(options.user, options.user, options.user) || setresuid(options.user, options.user, options.user))
        die("setresuid");
    if (prctl(PR_SET_DUMPABLE, 1, 0, 0, 0))
        die("PR_SET_DUMPABLE");
}

// --- control

static void quit(void)
{
    signals_are_delivered();
    bool good = total_deviations() == 0;
    print_checks(stdout);
    end_checks();
    remove_waits();
    _exit(good ? 0 : 1);
}

static void obey(const char *command)
{
    if (!strcmp(command, "status"))
        print_checks(stdout);
    else if (!strcmp(command, "offsets"))
        (options.stand_in ? print_sizes : print_offsets)(stdout);
    else if (!strcmp(command, "maps"))
        print_resources();
    else if (!strcmp(command, "clock"))
        print_clock(stdout);
    else if (!strcmp(command, "pause") || !strcmp(command, "cont")) {
        pause_vcpus(!strcmp(command, "pause"));
        printf("{}\n");
        fflush(stdout);
    } else if (!strcmp(command, "quit"))
        quit();
    else
        fprintf(stderr, "target: unknown command %s\n", command);
}

static void usage(void)
{
    fprintf(stderr,
        "usage: target [OPTION]...\n"
        "  --vcpus N            how many vCPUs (4)\n"
        "  --spinners N         how many threads spin in user mode (2)\n"
        "  --expect-offsets A,B  sets all TSC offsets to A; later all are A or all are B\n"
        "  --catch-sigurg       has handlers for SIGURG and SIGWINCH\n"
        "  --seccomp            forbids the ioctls of KvmTsc, and executable memory\n"
        "  --sandbox            forbids what QEMU's sandbox does\n"
        "  --no-run             never runs the vCPUs, until told to\n"
        "  --paused             runs each vCPU once, then waits until told to go on\n"
        "  --stop-clock         sets kvmclock back to where it stood after a pause, as QEMU does\n"
        "  --late-kicks         has a vCPU's thread told to leave KVM_RUN some time before the signal that says so, as on a busy host\n"
        "  --undumpable         as after a change of credentials\n"
        "  --exit-after MS      ends by itself\n"
        "  --stand-in           needs no KVM: terminals' sizes instead of TSC offsets\n"
        "  --user ID            gives up root once it has its VM\n");
    exit(2);
}

static void parse(int count, char **arguments)
{
    static const struct option known[] = {
        { "vcpus", required_argument, NULL, 'v' },
        { "spinners", required_argument, NULL, 's' },
        { "expect-offsets", required_argument, NULL, 'o' },
        { "catch-sigurg", no_argument, NULL, 'c' },
        { "seccomp", no_argument, NULL, 'f' },
        { "sandbox", no_argument, NULL, 'b' },
        { "no-run", no_argument, NULL, 'n' },
        { "paused", no_argument, NULL, 'p' },
        { "stop-clock", no_argument, NULL, 'k' },
        { "late-kicks", no_argument, NULL, 'l' },
        { "undumpable", no_argument, NULL, 'u' },
        { "exit-after", required_argument, NULL, 'e' },
        { "stand-in", no_argument, NULL, 't' },
        { "user", required_argument, NULL, 'i' },
        { NULL, 0, NULL, 0 },
    };
    for (int option; (option = getopt_long(count, arguments, "", known, NULL)) != -1;) {
        switch (option) {
        case 'v': options.vcpus = atoi(optarg); break;
        case 's': options.spinners = atoi(optarg); break;
        case 'o':
            options.expects_offsets = true;
            if (sscanf(optarg, "%ld,%ld", &options.offsets[0], &options.offsets[1]) != 2)
                usage();
            break;
        case 'c': options.catch_sigurg = true; break;
        case 'f': options.seccomp = true; break;
        case 'b': options.sandbox = true; break;
        case 'n': options.no_run = true; break;
        case 'p': options.paused = true; break;
        case 'k': options.stop_clock = true; break;
        case 'l': options.late_kicks = true; break;
        case 'u': options.undumpable = true; break;
        case 'e': options.exit_after_ms = (unsigned)atoi(optarg); break;
        case 't': options.stand_in = true; break;
        case 'i': options.user = (unsigned)atoi(optarg); break;
        default: usage();
        }
    }
    if (optind != count || options.vcpus < 1)
        usage();
}

int main(int count, char **arguments)
{
    char line[80];
    sigset_t all;
    parse(count, arguments);
    sigfillset(&all);
    sigdelset(&all, SIGCHLD);
    pthread_sigmask(SIG_SETMASK, &all, NULL);

    if (options.stand_in)
        create_terminals();
    else
        create_vcpus();
    if (options.user)
        become_user();
    if (!options.stand_in)
        start_vcpus();
    start_registers();
    start_waits();
    start_signals();
    start_churn();
    start_thread(watch, NULL);
    if (options.exit_after_ms)
        start_thread(exit_later, NULL);
    if (options.seccomp)
        forbid_by_seccomp();
    if (options.sandbox)
        sandbox_by_seccomp();
    if (options.undumpable && prctl(PR_SET_DUMPABLE, 0, 0, 0, 0))
        die("PR_SET_DUMPABLE");
    sleep_ms(300); // libc makes mappings of its own when threads first need them
    printf("ready %d vm %d registers %s terminals ", getpid(), vm_descriptor(), vectors_name());
    print_terminals(stdout);
    fflush(stdout);
    while (fgets(line, sizeof line, stdin)) {
        line[strcspn(line, "\n")] = 0;
        obey(line);
    }
    quit();
}
