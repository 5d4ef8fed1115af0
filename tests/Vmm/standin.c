// A VMM that does what another one does, as far as it has to do with clocks and with those who attach to it: which threads there are, what they are called, what each may by
// seccomp, who creates vCPUs and has copies of their descriptors, how a pause is done, and in which order a snapshot is taken and restored. Which one is told by the name of its
// program, so that it is also taken for that one:
//
//   firecracker       --id NAME --api-sock SOCKET [--config-file FILE]
//   cloud-hypervisor  --api-socket path=SOCKET [--kernel FILE | --restore source_url=file://DIRECTORY[,resume=true]]
//   crosvm            run --name NAME -s SOCKET [--restore DIRECTORY] [--suspended]
//   lkvm              run --name NAME --sock SOCKET
//
// --older is a version before kvmclock was written with CLOCK_REALTIME (cloud-hypervisor up to 52), or was not any more (Firecracker up to 1.15).
// --prefault-seconds N is for how long a VMM fills memory between the creation of its VM and of its vCPUs.
// Where each does what is told in docs/vmms.md. Requests come by SOCKET (server.c), by HTTP, one a connection. The guest's log is the answer to GET /log.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "filters.h"
#include "server.h"
#include "threads.h"
#include "vm.h"

enum order { NO_ORDER, DO_PAUSE, DO_RESUME, DO_SAVE, DO_RESTORE };

// A vCPU's thread, and the channels to and from it.
struct runner {
    int id;
    char name[16];
    _Atomic pid_t *thread;
    struct channel orders, answers;
    _Atomic int order;
    _Atomic bool is_paused;
    struct vcpu_state *state;
};

struct snapshot {
    uint64_t vcpu_count;
    struct vm_clock clock;
    struct vcpu_state vcpus[GUEST_MOST_VCPUS];
};

struct options {
    const char *program, *socket, *restore;
    bool boots, older, suspended, resumes;
    unsigned prefault_seconds;
};

static struct options options;
static struct runner runners[GUEST_MOST_VCPUS];
static struct snapshot snapshot;
static bool has_vm;
static int told_stopped; // what the last KVM_KVMCLOCK_CTRL returned

// --- files, by the system calls that filters let through

static int open_file(const char *path, int flags)
{
    int file = (int)syscall(SYS_open, path, flags | O_CLOEXEC, 0600);
    if (file < 0)
        die(path);
    return file;
}

static void write_file(const char *path, const void *data, size_t size)
{
    int file = open_file(path, O_WRONLY | O_CREAT | O_TRUNC);
    for (size_t done = 0; done < size;) {
        ssize_t count = write(file, (const char *)data + done, size - done);
        if (count <= 0)
            die(path);
        done += (size_t)count;
    }
    close(file);
}

static void read_file(const char *path, void *data, size_t size)
{
    int file = open_file(path, O_RDONLY);
    for (size_t done = 0; done < size;) {
        ssize_t count = read(file, (char *)data + done, size - done);
        if (count <= 0)
            die(path);
        done += (size_t)count;
    }
    close(file);
}

static void write_snapshot(const struct request *request)
{
    snapshot.vcpu_count = (uint64_t)vcpu_count;
    write_file(request->state, &snapshot, sizeof snapshot);
    write_file(request->memory, guest_memory(), GUEST_MEMORY);
}

static void read_snapshot(const struct request *request)
{
    read_file(request->state, &snapshot, sizeof snapshot);
    vcpu_count = (int)snapshot.vcpu_count;
}

// --- vCPUs' threads

static void take_kick(int signal)
{
    (void)signal;
}

static int kick_signal(void)
{
    return SIGRTMIN;
}

// Until a signal, or immediate_exit, ends it.
static void run_guest(struct vcpu *vcpu)
{
    while (ioctl(vcpu->fd, KVM_RUN, 0) == 0 || errno == EAGAIN)
        if (vcpu->run->exit_reason != KVM_EXIT_INTR && vcpu->run->exit_reason != KVM_EXIT_IRQ_WINDOW_OPEN && vcpu->run->exit_reason != KVM_EXIT_IOAPIC_EOI) {
            errno = (int)vcpu->run->exit_reason;
            die("KVM_RUN ended with the exit reason that is this errno");
        }
    if (errno != EINTR)
        die("KVM_RUN");
    vcpu->run->immediate_exit = 0;
}

static void kick(struct runner *runner)
{
    vcpus[runner->id].run->immediate_exit = 1;
    signal_thread(*runner->thread, kick_signal());
}

static void send_order(struct runner *runner, enum order order)
{
    runner->order = order;
    send_to(&runner->orders);
    kick(runner);
}

static void await_answers(void)
{
    for (int i = 0; i < vcpu_count; i++)
        receive_from(&runners[i].answers);
}

static void order_all(enum order order)
{
    for (int i = 0; i < vcpu_count; i++)
        send_order(&runners[i], order);
    await_answers();
}

static void create_all(bool splits_irqchip)
{
    create_vm(splits_irqchip);
    sleep(options.prefault_seconds);
    for (int i = 0; i < vcpu_count; i++)
        create_vcpu(i);
}

static void start_guests(void)
{
    for (int i = 0; i < vcpu_count; i++)
        start_guest(i);
}

static void start_runners(const char *format, void *(*run)(void *))
{
    handle_signal(kick_signal(), take_kick);
    for (int i = 0; i < vcpu_count; i++) {
        runners[i].id = i;
        snprintf(runners[i].name, sizeof runners[i].name, format, i);
        runners[i].state = &snapshot.vcpus[i];
        runners[i].thread = start_thread(runners[i].name, run, &runners[i]);
    }
}

// --- Firecracker

// The thread of a vCPU begins paused; it does what it is told by a channel, saving its state too, and answers before it does KVM_KVMCLOCK_CTRL.
static void *firecracker_vcpu(void *argument)
{
    struct runner *runner = argument;
    struct vcpu *vcpu = &vcpus[runner->id];
    bool is_running = false;
    filter_thread(FIRECRACKER_VCPU);
    send_to(&runner->answers);
    for (;;) {
        if (is_running) {
            run_guest(vcpu);
            if (runner->orders.waiting == 0)
                continue;
        }
        receive_from(&runner->orders);
        switch (runner->order) {
        case DO_PAUSE:
            send_to(&runner->answers);
            if (is_running)
                told_stopped = tell_stopped(vcpu->fd);
            is_running = false;
            break;
        case DO_RESUME:
            vcpu->run->immediate_exit = 0;
            send_to(&runner->answers);
            is_running = true;
            break;
        case DO_SAVE:
            save_vcpu(runner->id, runner->state);
            send_to(&runner->answers);
            break;
        }
    }
    return NULL;
}

// Its own filter comes when all is made: what makes a VM is not in it.
static void firecracker_start(void)
{
    for (int i = 0; i < vcpu_count; i++)
        duplicate_vcpu(i);
    start_runners("fc_vcpu %d", firecracker_vcpu);
    await_answers();
    filter_thread(FIRECRACKER_VMM);
}

static void firecracker_boot(void)
{
    create_all(false);
    start_guests();
    firecracker_start();
    order_all(DO_RESUME);
}

static void firecracker_snapshot(const struct request *request)
{
    order_all(DO_SAVE);
    snapshot.clock = get_clock();
    for (int i = 0; i < vcpu_count; i++)
        if (snapshot.vcpus[i].tsc_deadline == 0)
            snapshot.vcpus[i].tsc_deadline = snapshot.vcpus[i].tsc;
    write_snapshot(request);
}

static void firecracker_restore(const struct request *request)
{
    read_snapshot(request);
    create_all(false);
    read_file(request->memory, guest_memory(), GUEST_MEMORY);
    for (int i = 0; i < vcpu_count; i++) {
        const struct vcpu_state *state = &snapshot.vcpus[i];
        uint64_t apart = (uint64_t)llabs((long long)get_tsc_khz(i) - state->tsc_khz);
        if (apart > state->tsc_khz * 250ul / 1000000)
            set_tsc_khz(i, state->tsc_khz);
    }
    for (int i = 0; i < vcpu_count; i++) {
        const struct vcpu_state *state = &snapshot.vcpus[i];
        restore_registers(i, state);
        restore_tsc(i, state);
        set_msr(i, MSR_KVM_SYSTEM_TIME, state->system_time);
        set_msr(i, MSR_TSC_DEADLINE, state->tsc_deadline);
        restore_events(i, state);
        told_stopped = tell_stopped(vcpus[i].fd);
    }
    uint32_t flags = options.older ? snapshot.clock.data.flags & ~(uint32_t)KVM_CLOCK_TSC_STABLE : request->by_realtime ? KVM_CLOCK_REALTIME : 0;
    set_clock(&snapshot.clock, flags);
    firecracker_start();
    if (request->resumes)
        order_all(DO_RESUME);
}

// --- cloud-hypervisor

static _Atomic uint32_t pause_signalled;
static struct vm_clock saved_clock;
static bool has_saved_clock;

// A thread that is to pause enters KVM once more, to finish what the guest had begun, and parks.
static void *cloud_hypervisor_vcpu(void *argument)
{
    struct runner *runner = argument;
    struct vcpu *vcpu = &vcpus[runner->id];
    filter_thread(CLOUD_HYPERVISOR_VCPU);
    send_to(&runner->answers);
    for (;;) {
        if (pause_signalled) {
            vcpu->run->immediate_exit = 1;
            run_guest(vcpu);
            runner->is_paused = true;
            while (pause_signalled)
                wait_while(&pause_signalled, 1);
            runner->is_paused = false;
        }
        run_guest(vcpu);
    }
    return NULL;
}

static void cloud_hypervisor_start(void)
{
    start_runners("vcpu%d", cloud_hypervisor_vcpu);
    await_answers();
}

static void cloud_hypervisor_boot(void)
{
    create_all(true);
    start_guests();
    cloud_hypervisor_start();
}

// The older one reads the clock before the vCPUs stand still, so that what it writes later is a little less than what their guest may have read.
static void cloud_hypervisor_pause(void)
{
    saved_clock = get_clock();
    pause_signalled = 1;
    for (int i = 0; i < vcpu_count; i++)
        signal_thread(*runners[i].thread, kick_signal());
    for (int i = 0; i < vcpu_count; i++)
        told_stopped = tell_stopped(vcpus[i].fd);
    for (int i = 0; i < vcpu_count; i++)
        while (!runners[i].is_paused) {
            sleep_ms(1);
            signal_thread(*runners[i].thread, kick_signal());
        }
    if (!options.older)
        saved_clock = get_clock();
    has_saved_clock = true;
}

static void cloud_hypervisor_resume(void)
{
    if (has_saved_clock)
        set_clock(&saved_clock, options.older ? 0 : saved_clock.data.flags | KVM_CLOCK_REALTIME);
    pause_signalled = 0;
    wake_all(&pause_signalled);
    for (int i = 0; i < vcpu_count; i++)
        while (runners[i].is_paused)
            sleep_ms(1);
}

static void cloud_hypervisor_snapshot(const struct request *request)
{
    snapshot.clock = saved_clock;
    for (int i = 0; i < vcpu_count; i++)
        save_vcpu(i, &snapshot.vcpus[i]);
    write_snapshot(request);
}

static void cloud_hypervisor_restore(const struct request *request)
{
    read_snapshot(request);
    saved_clock = snapshot.clock;
    has_saved_clock = true;
    create_all(true);
    read_file(request->memory, guest_memory(), GUEST_MEMORY);
    for (int i = 0; i < vcpu_count; i++) {
        const struct vcpu_state *state = &snapshot.vcpus[i];
        restore_registers(i, state);
        set_tsc_khz(i, state->tsc_khz);
        restore_tsc(i, state);
        set_msr(i, MSR_KVM_SYSTEM_TIME, state->system_time);
        set_msr(i, MSR_TSC_DEADLINE, state->tsc_deadline);
        restore_events(i, state);
    }
    if (!options.older) {
        uint64_t offset = get_tsc_offset(0);
        for (int i = 0; i < vcpu_count; i++)
            set_tsc_offset(i, offset);
    }
    pause_signalled = 1;
    cloud_hypervisor_start();
    if (request->resumes)
        cloud_hypervisor_resume();
}

// --- crosvm

// A thread creates its vCPU itself, does what it is told by a channel, and answers when asked.
static void *crosvm_vcpu(void *argument)
{
    struct runner *runner = argument;
    bool is_running = !options.restore && !options.suspended;
    create_vcpu(runner->id);
    if (!options.restore)
        start_guest(runner->id);
    send_to(&runner->answers);
    struct vcpu *vcpu = &vcpus[runner->id];
    for (;;) {
        if (is_running) {
            run_guest(vcpu);
            if (runner->orders.waiting == 0)
                continue;
        }
        receive_from(&runner->orders);
        const struct vcpu_state *state = runner->state;
        switch (runner->order) {
        case DO_PAUSE:
            told_stopped = tell_stopped(vcpu->fd);
            is_running = false;
            break;
        case DO_RESUME:
            vcpu->run->immediate_exit = 0;
            is_running = true;
            break;
        case DO_SAVE:
            save_vcpu(runner->id, runner->state);
            break;
        case DO_RESTORE:
            restore_registers(runner->id, state);
            if (get_msr(runner->id, MSR_TSC) != state->tsc)
                restore_tsc(runner->id, state);
            if (get_msr(runner->id, MSR_TSC_DEADLINE) != state->tsc_deadline)
                set_msr(runner->id, MSR_TSC_DEADLINE, state->tsc_deadline);
            if (get_msr(runner->id, MSR_KVM_SYSTEM_TIME) != state->system_time)
                set_msr(runner->id, MSR_KVM_SYSTEM_TIME, state->system_time);
            restore_events(runner->id, state);
            break;
        }
        send_to(&runner->answers);
    }
    return NULL;
}

static void crosvm_boot(void)
{
    struct request request = { .verb = RESTORE };
    if (options.restore) {
        take_directory(&request, options.restore);
        read_snapshot(&request);
    }
    create_vm(false);
    start_runners("crosvm_vcpu%d", crosvm_vcpu);
    await_answers();
    if (!options.restore)
        return;
    saved_clock = snapshot.clock;
    has_saved_clock = true;
    order_all(DO_RESTORE);
    read_file(request.memory, guest_memory(), GUEST_MEMORY);
    if (!options.suspended)
        order_all(DO_RESUME); // kvmclock is what it is in a new VM: the saved one is only written by a resume that somebody asks for
}

// The clock that was saved is kept for good: that of the first pause is written at each resume.
static void crosvm_pause(void)
{
    order_all(DO_PAUSE);
    if (!has_saved_clock)
        saved_clock = get_clock();
    has_saved_clock = true;
}

static void crosvm_resume(void)
{
    if (has_saved_clock)
        set_clock(&saved_clock, 0);
    order_all(DO_RESUME);
}

static void crosvm_snapshot(const struct request *request)
{
    snapshot.clock = saved_clock;
    order_all(DO_SAVE);
    write_snapshot(request);
}

// --- kvmtool

static _Atomic uint32_t pause_lock; // held while it is paused
static int pause_event;

static void *kvmtool_vcpu(void *argument)
{
    struct runner *runner = argument;
    start_guest(runner->id);
    for (;;)
        run_guest(&vcpus[runner->id]);
    return NULL;
}

// Its vCPUs' threads wait in the handler of a signal.
static void kvmtool_paused(int signal)
{
    uint64_t one = 1;
    (void)signal;
    if (write(pause_event, &one, sizeof one) < 0)
        die("eventfd");
    while (pause_lock)
        wait_while(&pause_lock, 1);
}

static void kvmtool_boot(void)
{
    create_all(false);
    handle_signal(SIGUSR2, kvmtool_paused);
    start_runners("kvm-vcpu-%d", kvmtool_vcpu);
}

// KVM_KVMCLOCK_CTRL is a vCPU's ioctl; this one goes to the VM.
static void kvmtool_pause(void)
{
    told_stopped = tell_stopped(vm_descriptor());
    pause_lock = 1;
    pause_event = eventfd(0, EFD_CLOEXEC);
    for (int i = 0; i < vcpu_count; i++)
        signal_thread(*runners[i].thread, SIGUSR2);
    for (uint64_t paused = 0, more; paused < (uint64_t)vcpu_count; paused += more)
        if (read(pause_event, &more, sizeof more) < 0)
            die("eventfd");
    close(pause_event);
}

static void kvmtool_resume(void)
{
    pause_lock = 0;
    wake_all(&pause_lock);
}

// --- what all have

static void firecracker_pause(void)
{
    order_all(DO_PAUSE);
}

static void firecracker_resume(void)
{
    order_all(DO_RESUME);
}

static const struct vmm {
    const char *program;
    void (*boot)(void), (*pause)(void), (*resume)(void);
    void (*snapshot)(const struct request *), (*restore)(const struct request *); // NULL where it has none
} vmms[] = {
    { "firecracker", firecracker_boot, firecracker_pause, firecracker_resume, firecracker_snapshot, firecracker_restore },
    { "cloud-hypervisor", cloud_hypervisor_boot, cloud_hypervisor_pause, cloud_hypervisor_resume, cloud_hypervisor_snapshot, cloud_hypervisor_restore },
    { "crosvm", crosvm_boot, crosvm_pause, crosvm_resume, crosvm_snapshot, NULL },
    { "lkvm", kvmtool_boot, kvmtool_pause, kvmtool_resume, NULL, NULL },
};

static const struct vmm *vmm;

static void answer_log(struct answer *answer)
{
    say(answer, "kvmclock_ctrl %d\nset_clock %" PRIu64 "\nclock_away %" PRIu64 " %" PRIu64 "\n", told_stopped, set_clock_ticks, clock_away.from, clock_away.to);
    for (int i = 0; i < vcpu_count; i++) {
        const struct area *area = guest_area(i);
        const struct sample *last = &area->last;
        say(answer, "vcpu %d samples %" PRIu64 " backwards %" PRIu64 " %" PRIu64 " mismatches %" PRIu64 " unpaired %" PRIu64 " stopped %" PRIu64 "\n", i, area->samples,
            area->clock_backwards, area->tsc_backwards, area->mismatches, area->unpaired, area->stopped);
        say(answer, "vcpu %d tsc_away %" PRIu64 " %" PRIu64 "\n", i, vcpus[i].tsc_away.from, vcpus[i].tsc_away.to);
        say(answer, "vcpu %d last %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", i, last->real, last->tsc, last->clock);
        for (uint64_t e = area->events > GUEST_EVENTS ? area->events - GUEST_EVENTS : 0; e < area->events; e++) {
            const struct event *event = &area->event[e % GUEST_EVENTS];
            say(answer, "vcpu %d event %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", i, event->before.real, event->before.tsc, event->before.clock,
                event->after.real, event->after.tsc, event->after.clock);
        }
    }
}

// The guest may be about to log an event meanwhile, which is lost then.
static void clear_log(void)
{
    for (int i = 0; i < vcpu_count; i++) {
        struct area *area = guest_area(i);
        area->events = area->clock_backwards = area->tsc_backwards = area->mismatches = area->stopped = 0;
    }
}

// One that a VMM does not have is an error.
static void try(void (*work)(const struct request *), const struct request *request, struct answer *answer)
{
    if (work)
        work(request);
    else
        answer->length = -1;
}

static void execute(const struct request *request, struct answer *answer)
{
    bool makes = request->verb == BOOT || request->verb == RESTORE;
    if (request->verb == QUIT)
        return;
    if (has_vm == makes) {
        answer->length = -1;
        return;
    }
    switch (request->verb) {
    case BOOT:
        vmm->boot();
        break;
    case PAUSE:
        vmm->pause();
        break;
    case RESUME:
        vmm->resume();
        break;
    case SNAPSHOT:
        try(vmm->snapshot, request, answer);
        break;
    case RESTORE:
        try(vmm->restore, request, answer);
        break;
    case LOG:
        answer_log(answer);
        break;
    default:
        clear_log();
    }
    has_vm |= makes && answer->length == 0;
}

// Where the API has a thread of its own, requests go to the one that has the VM.
static struct {
    struct channel asked, answered;
    const struct request *request;
    struct answer *answer;
} mailbox;

static void pass_on(const struct request *request, struct answer *answer)
{
    mailbox.request = request;
    mailbox.answer = answer;
    send_to(&mailbox.asked);
    receive_from(&mailbox.answered);
}

static _Noreturn void work(void)
{
    for (;;) {
        receive_from(&mailbox.asked);
        execute(mailbox.request, mailbox.answer);
        send_to(&mailbox.answered);
    }
}

static int server;

static void *serve_filtered(void *filter)
{
    filter_thread((enum filter)(uintptr_t)filter);
    serve(server, pass_on);
    return NULL;
}

static void *serve_kvmtool(void *unused)
{
    (void)unused;
    serve(server, execute);
    return NULL;
}

static void boot_at_once(void)
{
    static struct answer answer;
    struct request request = { .verb = options.restore ? RESTORE : BOOT, .resumes = options.resumes };
    if (options.restore)
        take_directory(&request, options.restore);
    if (options.boots)
        execute(&request, &answer);
}

static void *run_cloud_hypervisor(void *unused)
{
    (void)unused;
    filter_thread(CLOUD_HYPERVISOR_VMM);
    boot_at_once();
    work();
}

static _Noreturn void run(void)
{
    if (!strcmp(vmm->program, "firecracker")) {
        start_thread("fc_api", serve_filtered, (void *)FIRECRACKER_API);
        boot_at_once();
        work();
    }
    if (!strcmp(vmm->program, "cloud-hypervisor")) {
        start_thread("http-server", serve_filtered, (void *)CLOUD_HYPERVISOR_API);
        start_thread("vmm", run_cloud_hypervisor, NULL);
        for (;;)
            pause();
    }
    has_vm = true;
    vmm->boot();
    if (!strcmp(vmm->program, "crosvm"))
        serve(server, execute);
    start_thread("kvm-ipc", serve_kvmtool, NULL);
    for (;;)
        pause();
}

// --- options

static const char *after(const char *text, const char *beginning)
{
    return strncmp(text, beginning, strlen(beginning)) ? text : text + strlen(beginning);
}

// --restore of cloud-hypervisor: source_url=file://DIRECTORY[,resume=true]
static void take_restore(char *value)
{
    char *comma = strchr(value, ',');
    options.resumes = comma && strstr(comma, "resume=true");
    if (comma)
        *comma = 0;
    options.restore = after(value, "source_url=");
    options.boots = true;
}

static void take_options(int count, char **arguments)
{
    options.program = basename(arguments[0]);
    vcpu_count = 2;
    for (int i = 1; i < count; i++) {
        char *option = arguments[i], *value = i + 1 < count ? arguments[i + 1] : (char *)"";
        if (!strcmp(option, "--older"))
            options.older = true;
        else if (!strcmp(option, "--suspended"))
            options.suspended = true;
        else if (!strcmp(option, "--config-file") || !strcmp(option, "--kernel"))
            options.boots = true;
        else if (!strcmp(option, "--api-sock") || !strcmp(option, "--api-socket") || !strcmp(option, "-s") || !strcmp(option, "--sock"))
            options.socket = after(value, "path=");
        else if (!strcmp(option, "--restore"))
            take_restore(value);
        else if (!strcmp(option, "--prefault-seconds"))
            options.prefault_seconds = (unsigned)atoi(value);
        else if (!strcmp(option, "--vcpus"))
            vcpu_count = atoi(value);
    }
    for (size_t i = 0; i < sizeof vmms / sizeof vmms[0]; i++)
        if (!strcmp(vmms[i].program, options.program))
            vmm = &vmms[i];
    if (!vmm || !options.socket || vcpu_count < 1 || vcpu_count > GUEST_MOST_VCPUS) {
        errno = EINVAL;
        die("options");
    }
}

int main(int count, char **arguments)
{
    take_options(count, arguments);
    signal(SIGPIPE, SIG_IGN);
    end_by_sigsys();
    server = open_server(options.socket);
    run();
}
