// The only program of the lab's guest, its first process: one thread per vCPU reads the guest's clocks over and over, in bursts or without a rest, and
// reports what a jump of time leaves behind. Reports go to QEMU's debug console, requests arrive by the first serial port, which also is the kernel's
// console. On a host, `clocklog host` prints that machine's clocks.
//
// Lines, one event each, times in nanoseconds, TSC values in ticks:
//
//   start vcpus=2 clocksource=tsc          the loops are running
//   second SAMPLE                          each second, of one thread after another, the last sample that nothing interrupted
//   gap MILLISECONDS SAMPLE | SAMPLE       two samples of one thread in a row, between which a clock went on by 400 ms or more
//   back CLOCK TICKS SAMPLE | READING      a clock reads less than any vCPU read before; READING is what it read
//   apart CLOCK NANOSECONDS SAMPLE | SAMPLE  between these two, CLOCK and the TSC did not go on by the same time
//   log LEVEL MICROSECONDS TEXT            the answer to `log`: the kernel's messages that are warnings or worse, or about clocks;
//   end log                                the last line of that answer
//   dropped LINES                          so many lines were too much to be written, in all that came since the last such line
//   clocksource NAME                       the answer to `clocksource`
//                                          `busy` has no answer: from then on the loops do not rest, until `rest`
//   moved tsc VCPUS                        the answer to `move-tsc TICKS CPU...`: so many wrote IA32_TSC, which now is by TICKS more;
//                                          of samples nothing is reported any more
//
//   SAMPLE   thread=0 tsc=1 real=1 +2 mono=1 +2 boot=1 +2
//
// In a sample each clock stands between two TSC readings, the moments before and after it was read: the later one says how many ticks after the earlier it was.
// Thread N runs on CPU N.

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>

enum { REALTIME, MONOTONIC, BOOTTIME, CLOCKS };
enum { MAX_VCPUS = 64, LINE_SIZE = 512, QUEUE_LINES = 1024, LOOP_LINES = 960, FLOOD_LINES = 256 };

static const clockid_t clock_ids[CLOCKS] = {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME};
static const char *const clock_names[CLOCKS + 1] = {"real", "mono", "boot", "tsc"};

static const uint64_t gap_ns = 400 * 1000 * 1000; // longer than a busy host keeps a vCPU waiting, mostly
static const uint64_t second_ns = 1000 * 1000 * 1000;
static const uint64_t burst_ns = 2 * 1000 * 1000, period_ns = 100 * 1000 * 1000;

struct sample {
    int thread;
    uint64_t tsc[CLOCKS + 1]; // clock i was read between tsc[i] and tsc[i + 1]
    uint64_t ns[CLOCKS];
};

// --- reading

static uint64_t read_tsc(void) {
    unsigned cpu;
    _mm_lfence();
    uint64_t tsc = __rdtscp(&cpu);
    _mm_lfence();
    return tsc;
}

static uint64_t read_clock(clockid_t id) {
    struct timespec now;
    clock_gettime(id, &now);
    return now.tv_sec * second_ns + now.tv_nsec;
}

// The highest value that any vCPU has read, of each clock and, last, of the TSC.
static _Atomic uint64_t highest[CLOCKS + 1];

static void raise_highest(int which, uint64_t value) {
    uint64_t seen = atomic_load_explicit(&highest[which], memory_order_relaxed);
    while (value > seen && !atomic_compare_exchange_weak(&highest[which], &seen, value)) {
    }
}

// Each highest value is loaded before its clock is read: a lower reading is time that went backwards.
static void take_sample(struct sample *sample, uint64_t seen[CLOCKS + 1]) {
    seen[CLOCKS] = atomic_load(&highest[CLOCKS]);
    sample->tsc[0] = read_tsc();
    for (int i = 0; i < CLOCKS; i++) {
        seen[i] = atomic_load(&highest[i]);
        sample->ns[i] = read_clock(clock_ids[i]);
        sample->tsc[i + 1] = read_tsc();
    }
    raise_highest(CLOCKS, sample->tsc[CLOCKS]);
    for (int i = 0; i < CLOCKS; i++)
        raise_highest(i, sample->ns[i]);
}

static uint64_t clock_value(const struct sample *sample, int which) {
    return which == CLOCKS ? sample->tsc[0] : sample->ns[which];
}

// --- reporting: the loops must not wait for a serial port, so they leave their lines to a thread that may, six of them a second on an emulated host. What they
// report can be more than that: where a clock goes back or stands still, that is each sample. These fill no more than a part of the queue, so that what comes
// after them comes in time; and no answer is dropped.

static struct {
    pthread_mutex_t mutex;
    pthread_cond_t filled, emptied;
    unsigned first, count, dropped;
    char lines[QUEUE_LINES][LINE_SIZE];
} queue = {.mutex = PTHREAD_MUTEX_INITIALIZER, .filled = PTHREAD_COND_INITIALIZER, .emptied = PTHREAD_COND_INITIALIZER};

static const off_t debug_console = 0xe9; // an I/O port
static int input, ports;

// Where there are as many lines already as are for its kind, it waits or is dropped.
static void put_line(unsigned most, bool waits, const char *format, va_list arguments) {
    char line[LINE_SIZE];
    int length = vsnprintf(line, sizeof line - 1, format, arguments);
    if (length > (int)sizeof line - 2)
        length = sizeof line - 2;
    strcpy(line + length, "\n");

    pthread_mutex_lock(&queue.mutex);
    while (waits && queue.count >= most)
        pthread_cond_wait(&queue.emptied, &queue.mutex);
    if (queue.count < most) {
        strcpy(queue.lines[(queue.first + queue.count++) % QUEUE_LINES], line);
        pthread_cond_signal(&queue.filled);
    } else {
        queue.dropped++;
    }
    pthread_mutex_unlock(&queue.mutex);
}

__attribute__((format(printf, 2, 3))) static void report(unsigned most, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    put_line(most, false, format, arguments);
    va_end(arguments);
}

// What somebody waits for. There are lines for this alone, and whoever answers may wait for one.
__attribute__((format(printf, 1, 2))) static void reply(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    put_line(QUEUE_LINES, true, format, arguments);
    va_end(arguments);
}

// By the kernel, byte by byte: QEMU's emulated host lets no user mode use ports any more once the guest was migrated, since it takes the
// busy task register that KVM then loads for none that has a permission bitmap.
static void write_line(const char *line) {
    for (; *line; line++)
        pwrite(ports, line, 1, debug_console);
}

static void *write_reports(void *unused) {
    (void)unused;
    char line[LINE_SIZE];
    for (;;) {
        pthread_mutex_lock(&queue.mutex);
        while (queue.count == 0)
            pthread_cond_wait(&queue.filled, &queue.mutex);
        strcpy(line, queue.lines[queue.first]);
        queue.first = (queue.first + 1) % QUEUE_LINES;
        queue.count--;
        pthread_cond_signal(&queue.emptied);
        unsigned dropped = 0;
        if (queue.count == 0) { // which makes no more lines of a flood than there are
            dropped = queue.dropped;
            queue.dropped = 0;
        }
        pthread_mutex_unlock(&queue.mutex);
        write_line(line);
        if (dropped > 0)
            report(QUEUE_LINES, "dropped %u", dropped);
    }
    return NULL;
}

static const char *sample_text(const struct sample *sample, char text[LINE_SIZE / 2]) {
    int length = snprintf(text, LINE_SIZE / 2, "thread=%d tsc=%lu", sample->thread, sample->tsc[0]);
    for (int i = 0; i < CLOCKS; i++)
        length += snprintf(text + length, LINE_SIZE / 2 - length, " %s=%lu %+ld", clock_names[i], sample->ns[i],
                           (int64_t)(sample->tsc[i + 1] - sample->tsc[i]));
    return text;
}

static void report_sample(const char *kind, const struct sample *sample) {
    char text[LINE_SIZE / 2];
    report(LOOP_LINES, "%s %s", kind, sample_text(sample, text));
}

static void report_samples(unsigned most, const char *kind, const struct sample *before, const struct sample *after) {
    char first[LINE_SIZE / 2], second[LINE_SIZE / 2];
    report(most, "%s %s | %s", kind, sample_text(before, first), sample_text(after, second));
}

// --- judging

// What one thread knows of the relation between its TSC and its clocks.
struct line {
    double ns_per_tick;
    uint64_t narrowest;      // ticks that the fastest sample took
    bool started;            // whether there is an origin
    struct sample origin;    // what the rate is measured from
    struct sample reference; // what the next sample is compared with
};

static double distance(uint64_t from, uint64_t to) {
    return (double)(int64_t)(to - from);
}

static double span_ns(const struct line *line, uint64_t from, uint64_t to) {
    return distance(from, to) * line->ns_per_tick;
}

// Whether a sample was read without an interruption, and says closely what each clock was at a moment.
static bool is_tight(struct line *line, const struct sample *sample) {
    uint64_t width = sample->tsc[CLOCKS] - sample->tsc[0];
    if (width < line->narrowest)
        line->narrowest = width;
    return width < 2 * line->narrowest;
}

static void measure_rate(struct line *line, const struct sample *sample) {
    line->ns_per_tick = distance(line->origin.ns[MONOTONIC], sample->ns[MONOTONIC]) /
                        distance(line->origin.tsc[MONOTONIC], sample->tsc[MONOTONIC]);
}

static void report_backwards(const struct sample *sample, const uint64_t seen[CLOCKS + 1]) {
    char text[LINE_SIZE / 2];
    for (int i = 0; i <= CLOCKS; i++)
        if (clock_value(sample, i) < seen[i])
            report(FLOOD_LINES, "back %s %lu %s | %lu", clock_names[i], seen[i] - clock_value(sample, i), sample_text(sample, text), seen[i]);
}

// The end of the gap may lie within the later sample, or its start within the earlier one: what counts is from first reading to last.
static void report_gap(const struct line *line, const struct sample *before, const struct sample *after) {
    double longest = span_ns(line, before->tsc[CLOCKS], after->tsc[CLOCKS]);
    for (int i = 0; i < CLOCKS; i++)
        if (distance(before->ns[i], after->ns[i]) > longest)
            longest = distance(before->ns[i], after->ns[i]);
    if (longest < gap_ns)
        return;
    char kind[32];
    snprintf(kind, sizeof kind, "gap %.3f", longest / 1e6);
    report_samples(LOOP_LINES, kind, before, after);
}

// Whether each clock went on between the samples as far as the TSC did: at least from the end of its reading in the one to the start of
// its reading in the other, at most from start to end.
static bool report_apart(const struct line *line, const struct sample *before, const struct sample *after) {
    bool apart = false;
    for (int i = 0; i < CLOCKS; i++) {
        double passed = distance(before->ns[i], after->ns[i]);
        double least = span_ns(line, before->tsc[i + 1], after->tsc[i]);
        double most = span_ns(line, before->tsc[i], after->tsc[i + 1]);
        double tolerance = 2000 + most * 2e-6; // the kernel's own roundings, and the rate's
        double by = passed < least ? passed - least : passed > most ? passed - most : 0;
        if (by < -tolerance || by > tolerance) {
            char kind[64];
            snprintf(kind, sizeof kind, "apart %s %.0f", clock_names[i], by);
            report_samples(FLOOD_LINES, kind, before, after);
            apart = true;
        }
    }
    return apart;
}

// --- the loops

static int vcpus;
static atomic_int running;
static atomic_bool moves_tsc; // from then on what would be reported is its own doing, and too much to be read

static void pin(int cpu) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    sched_setaffinity(0, sizeof set, &set);
}

static atomic_bool rests = true;

// Reading without end would leave its host's processors to nothing else: after a burst a thread rests until the next period begins, which is one moment for
// all threads, so that what their vCPUs read is compared all the same. Returns when its burst began. Who takes the guest away has it busy before, so that it is
// reading when it comes back.
static uint64_t rest_after_burst(uint64_t began, uint64_t now) {
    if (!rests || now - began < burst_ns) // unsigned: a clock that went back ends it
        return began;
    uint64_t next = (now / period_ns + 1) * period_ns;
    struct timespec at = {next / second_ns, next % second_ns};
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL);
    return read_clock(CLOCK_MONOTONIC);
}

// Takes samples until two seconds have passed, to learn the TSC's rate.
static void learn_line(struct line *line, struct sample *sample) {
    uint64_t seen[CLOCKS + 1];
    line->narrowest = UINT64_MAX;
    for (int i = 0; i < 1000; i++) {
        take_sample(sample, seen);
        is_tight(line, sample);
    }
    do {
        take_sample(sample, seen);
    } while (!is_tight(line, sample));
    line->origin = *sample;
    line->started = true;
    uint64_t burst = sample->ns[MONOTONIC];
    do {
        burst = rest_after_burst(burst, sample->ns[MONOTONIC]);
        take_sample(sample, seen);
    } while (!is_tight(line, sample) || distance(line->origin.ns[MONOTONIC], sample->ns[MONOTONIC]) < 2e9);
    measure_rate(line, sample);
    line->reference = *sample;
}

static void follow_line(struct line *line, const struct sample *sample) {
    if (report_apart(line, &line->reference, sample)) {
        line->started = false; // another line begins
        line->reference = *sample;
    }
    if (!is_tight(line, sample))
        return;
    line->reference = *sample;
    if (!line->started) {
        line->started = true;
        line->origin = *sample;
    } else if (distance(line->origin.ns[MONOTONIC], sample->ns[MONOTONIC]) > 5e9) {
        measure_rate(line, sample);
    }
}

static void *run_loop(void *argument) {
    int thread = (int)(intptr_t)argument;
    pin(thread);
    setpriority(PRIO_PROCESS, 0, 10); // this thread alone: it leaves time to those that report
    struct sample sample = {.thread = thread}, previous;
    uint64_t seen[CLOCKS + 1];
    struct line line = {0};
    learn_line(&line, &sample);
    running++;

    uint64_t burst = sample.ns[MONOTONIC], next = burst + thread * second_ns, turns = vcpus * second_ns;
    for (;;) {
        burst = rest_after_burst(burst, sample.ns[MONOTONIC]);
        previous = sample;
        take_sample(&sample, seen);
        if (moves_tsc)
            continue;
        report_backwards(&sample, seen);
        report_gap(&line, &previous, &sample);
        follow_line(&line, &sample);
        if (distance(next, sample.ns[MONOTONIC]) >= 0 || distance(sample.ns[MONOTONIC], next) > turns + 1e9) {
            next = sample.ns[MONOTONIC] + turns;
            report_sample("second", &line.reference);
        }
    }
    return NULL;
}

// --- requests

static void report_clocksource(const char *kind) {
    char name[64] = "unknown";
    int file = open("/sys/devices/system/clocksource/clocksource0/current_clocksource", O_RDONLY);
    ssize_t length = read(file, name, sizeof name - 1);
    close(file);
    if (length > 0)
        name[strcspn(name, "\n")] = '\0';
    reply("%s %s", kind, name);
}

static bool is_of_interest(unsigned level, const char *text) {
    static const char *const words[] = {"clocksource", "kvm-clock", "tsc", "TSC", "lockup", "stall", "watchdog", "skew", "unstable"};
    if (level <= 4)
        return true;
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (strstr(text, words[i]))
            return true;
    return false;
}

static void report_log(void) {
    char record[8192];
    int file = open("/dev/kmsg", O_RDONLY | O_NONBLOCK);
    for (;;) {
        ssize_t length = read(file, record, sizeof record - 1);
        if (length < 0 && errno == EPIPE) // messages were overwritten
            continue;
        if (length <= 0)
            break;
        record[length] = '\0';
        unsigned level;
        unsigned long number, microseconds;
        char *text = strchr(record, ';');
        if (!text || sscanf(record, "%u,%lu,%lu", &level, &number, &microseconds) != 3)
            continue;
        text[1 + strcspn(text + 1, "\n")] = '\0';
        if (is_of_interest(level & 7, text + 1))
            reply("log %u %lu %.300s", level & 7, microseconds, text + 1);
    }
    close(file);
    reply("end log");
}

// By the kernel's module msr, which the initramfs has if there was one when it was built.
static bool move_tsc(int cpu, int64_t ticks) {
    enum { IA32_TSC = 0x10 };
    char path[64];
    snprintf(path, sizeof path, "/dev/cpu/%d/msr", cpu);
    int msrs = open(path, O_WRONLY | O_CLOEXEC);
    if (msrs < 0)
        return false;
    cpu_set_t before;
    sched_getaffinity(0, sizeof before, &before);
    pin(cpu);
    uint64_t value = read_tsc() + ticks;
    bool written = pwrite(msrs, &value, sizeof value, IA32_TSC) == sizeof value;
    sched_setaffinity(0, sizeof before, &before);
    close(msrs);
    return written;
}

static void move_tscs(const char *request) {
    char *end;
    int64_t ticks = strtoll(request, &end, 10);
    int moved = 0;
    moves_tsc = true;
    for (char *next; *end; end = next) {
        long cpu = strtol(end, &next, 10);
        if (next == end)
            break;
        if (!move_tsc((int)cpu, ticks))
            reply("cpu %ld cannot write its TSC: %s", cpu, strerror(errno));
        else
            moved++;
    }
    reply("moved tsc %d", moved);
}

static void load_msr_module(void) {
    int file = open("/msr.ko", O_RDONLY | O_CLOEXEC);
    if (file >= 0 && syscall(SYS_finit_module, file, "", 0) && errno != EEXIST)
        reply("msr.ko: %s", strerror(errno));
    if (file >= 0)
        close(file);
}

static void answer(const char *request) {
    if (!strcmp(request, "log")) {
        report_log();
    } else if (!strcmp(request, "clocksource")) {
        report_clocksource("clocksource");
    } else if (!strcmp(request, "busy")) {
        rests = false;
    } else if (!strcmp(request, "rest")) {
        rests = true;
    } else if (!strncmp(request, "move-tsc ", 9)) {
        load_msr_module();
        move_tscs(request + 9);
    } else if (*request) {
        reply("unknown %.100s", request);
    }
}

static void answer_requests(void) {
    char request[128];
    for (;;) {
        ssize_t length = read(input, request, sizeof request - 1); // a line
        if (length <= 0)
            continue;
        request[length] = '\0';
        request[strcspn(request, "\n")] = '\0';
        answer(request);
    }
}

// --- starting

// Soft lockups are to be reported after 4 s instead of 20, shorter than the guest is stopped for.
static void tighten_watchdog(void) {
    int file = open("/proc/sys/kernel/watchdog_thresh", O_WRONLY);
    if (write(file, "2", 1) != 1)
        reply("watchdog cannot be set: %s", strerror(errno));
    close(file);
}

static void set_up_machine(void) {
    mount("proc", "/proc", "proc", 0, NULL);
    mount("sysfs", "/sys", "sysfs", 0, NULL);
    mount("dev", "/dev", "devtmpfs", 0, NULL);
    input = open("/dev/ttyS0", O_RDONLY | O_NOCTTY);
    struct termios settings;
    tcgetattr(input, &settings);
    settings.c_lflag &= ~ECHO;
    tcsetattr(input, TCSANOW, &settings);
    ports = open("/dev/port", O_WRONLY);
    tighten_watchdog();
}

static void start_thread(void *(*body)(void *), void *argument) {
    pthread_t thread;
    pthread_create(&thread, NULL, body, argument);
}

static int run_guest(void) {
    set_up_machine();
    vcpus = sysconf(_SC_NPROCESSORS_ONLN);
    if (vcpus > MAX_VCPUS)
        vcpus = MAX_VCPUS;
    start_thread(write_reports, NULL);
    for (int i = 0; i < vcpus; i++)
        start_thread(run_loop, (void *)(intptr_t)i);
    while (running < vcpus)
        usleep(10000);
    char kind[64];
    snprintf(kind, sizeof kind, "start vcpus=%d clocksource", vcpus);
    report_clocksource(kind);
    answer_requests();
    return 0;
}

// The tightest of many readings, of CLOCK_REALTIME, CLOCK_MONOTONIC_RAW and CLOCK_MONOTONIC around one another.
static int print_host(void) {
    uint64_t best = UINT64_MAX;
    char line[LINE_SIZE] = "";
    for (int i = 0; i < 200; i++) {
        uint64_t first = read_tsc();
        uint64_t real = read_clock(CLOCK_REALTIME);
        uint64_t raw = read_clock(CLOCK_MONOTONIC_RAW);
        uint64_t mono = read_clock(CLOCK_MONOTONIC);
        uint64_t last = read_tsc();
        if (last - first < best) {
            best = last - first;
            snprintf(line, sizeof line, "host tsc=%lu real=%lu raw=%lu mono=%lu tsc=%lu", first, real, raw, mono, last);
        }
    }
    puts(line);
    return 0;
}

int main(int count, char **arguments) {
    if (count == 2 && !strcmp(arguments[1], "host"))
        return print_host();
    if (getpid() == 1)
        return run_guest();
    fputs("Usage: clocklog host\n", stderr);
    return 2;
}
