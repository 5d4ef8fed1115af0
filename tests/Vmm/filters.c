#define _GNU_SOURCE
#include "filters.h"

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/kvm.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <termios.h>
#include <unistd.h>

#include "vm.h"

enum { MOST = 64, MOST_INSTRUCTIONS = 400, EXITS_BY_SIGSYS = 148 }; // Firecracker's code for it
enum { MMAP_WITHOUT_EXECUTION = 1, MPROTECT_WITHOUT_EXECUTION = 2, READ = 4 }; // read() has the number 0, which ends a list

// What a thread may: system calls, requests of ioctl(), and of mmap() and mprotect() none that asks for execution where the rules say so.
struct permissions {
    int calls[MOST];
    uint32_t requests[MOST];
    int rules;
};

// Firecracker: resources/seccomp/x86_64-unknown-linux-musl.json. There the C library is musl, which has tkill where this one's has tgkill.
static const struct permissions all[] = {
    [FIRECRACKER_VMM] = {
        .calls = { SYS_accept4, SYS_brk, SYS_clock_gettime, SYS_close, SYS_connect, SYS_epoll_ctl, SYS_epoll_pwait, SYS_eventfd2, SYS_exit, SYS_exit_group, SYS_fcntl,
                   SYS_fstat, SYS_fsync, SYS_ftruncate, SYS_futex, SYS_getrandom, SYS_gettid, SYS_lseek, SYS_madvise, SYS_memfd_create, SYS_mincore, SYS_mremap, SYS_msync,
                   SYS_munmap, SYS_open, SYS_readv, SYS_recvfrom, SYS_recvmsg, SYS_restart_syscall, SYS_rt_sigaction, SYS_rt_sigprocmask, SYS_rt_sigreturn,
                   SYS_sched_yield, SYS_sendmsg, SYS_sendto, SYS_sigaltstack, SYS_socket, SYS_stat, SYS_timerfd_create, SYS_timerfd_settime, SYS_tkill, SYS_write, SYS_writev },
        .requests = { FIONBIO, TIOCGWINSZ, TCGETS, TCSETS, KVM_GET_DIRTY_LOG, KVM_GET_IRQCHIP, KVM_GET_CLOCK, KVM_GET_PIT2, KVM_SET_USER_MEMORY_REGION, KVM_IOEVENTFD,
                      KVM_IRQFD },
        .rules = MMAP_WITHOUT_EXECUTION | MPROTECT_WITHOUT_EXECUTION | READ,
    },
    [FIRECRACKER_API] = {
        .calls = { SYS_accept4, SYS_brk, SYS_clock_gettime, SYS_close, SYS_epoll_ctl, SYS_epoll_pwait, SYS_exit, SYS_exit_group, SYS_fcntl, SYS_fstat, SYS_futex,
                   SYS_getrandom, SYS_gettid, SYS_madvise, SYS_mremap, SYS_munmap, SYS_open, SYS_recvfrom, SYS_recvmsg, SYS_restart_syscall, SYS_rt_sigaction,
                   SYS_rt_sigprocmask, SYS_sched_yield, SYS_sendto, SYS_sigaltstack, SYS_socket, SYS_tkill, SYS_write },
        .requests = { FIONBIO },
        .rules = MMAP_WITHOUT_EXECUTION | READ,
    },
    [FIRECRACKER_VCPU] = {
        .calls = { SYS_brk, SYS_clock_gettime, SYS_close, SYS_epoll_ctl, SYS_eventfd2, SYS_exit, SYS_exit_group, SYS_fstat, SYS_futex, SYS_gettid, SYS_io_uring_enter,
                   SYS_madvise, SYS_mremap, SYS_munmap, SYS_open, SYS_restart_syscall, SYS_rt_sigaction, SYS_rt_sigprocmask, SYS_rt_sigreturn, SYS_sched_yield, SYS_sendmsg,
                   SYS_sigaltstack, SYS_timerfd_settime, SYS_tkill, SYS_write },
        .requests = { KVM_RUN, KVM_GET_MP_STATE, KVM_GET_VCPU_EVENTS, KVM_GET_LAPIC, KVM_GET_SREGS, KVM_GET_REGS, KVM_GET_MSRS, KVM_GET_CPUID2, KVM_GET_DEBUGREGS,
                      KVM_GET_XSAVE, KVM_GET_XCRS, KVM_GET_TSC_KHZ, KVM_KVMCLOCK_CTRL, KVM_CHECK_EXTENSION, KVM_SET_GSI_ROUTING, KVM_IRQFD },
        .rules = MMAP_WITHOUT_EXECUTION,
    },

    // cloud-hypervisor: vmm/src/seccomp_filters.rs. Of what its vmm thread may only that is listed that has to do with VMs, and what it takes here.
    [CLOUD_HYPERVISOR_VMM] = {
        .calls = { SYS_accept4, SYS_brk, SYS_clock_gettime, SYS_clock_nanosleep, SYS_clone, SYS_clone3, SYS_close, SYS_dup, SYS_epoll_ctl, SYS_epoll_pwait, SYS_epoll_wait,
                   SYS_eventfd2, SYS_exit, SYS_exit_group, SYS_fcntl, SYS_fstat, SYS_fsync, SYS_ftruncate, SYS_futex, SYS_getpid, SYS_getrandom, SYS_gettid, SYS_lseek,
                   SYS_madvise, SYS_mmap, SYS_mprotect, SYS_mremap, SYS_munmap, SYS_nanosleep, SYS_newfstatat, SYS_open, SYS_openat, SYS_prctl, SYS_pread64, SYS_pwrite64,
                   SYS_restart_syscall, SYS_rseq, SYS_rt_sigaction, SYS_rt_sigprocmask, SYS_rt_sigreturn, SYS_sched_yield, SYS_seccomp, SYS_sendto,
                   SYS_set_robust_list, SYS_sigaltstack, SYS_tgkill, SYS_tkill, SYS_write, SYS_writev },
        .requests = { FIONBIO, KVM_CHECK_EXTENSION, KVM_CREATE_IRQCHIP, KVM_CREATE_VCPU, KVM_CREATE_VM, KVM_ENABLE_CAP, KVM_GET_API_VERSION, KVM_GET_DEVICE_ATTR,
                      KVM_GET_DIRTY_LOG, KVM_GET_MP_STATE, KVM_GET_REGS, KVM_GET_SUPPORTED_CPUID, KVM_GET_VCPU_EVENTS, KVM_GET_VCPU_MMAP_SIZE, KVM_IOEVENTFD, KVM_IRQFD, KVM_RUN,
                      KVM_SET_DEVICE_ATTR, KVM_HAS_DEVICE_ATTR, KVM_SET_GSI_ROUTING, KVM_SET_MP_STATE, KVM_SET_REGS, KVM_SET_USER_MEMORY_REGION, KVM_SET_VCPU_EVENTS, KVM_NMI,
                      KVM_CREATE_PIT2, KVM_GET_CLOCK, KVM_GET_CPUID2, KVM_GET_FPU, KVM_GET_LAPIC, KVM_GET_MSR_INDEX_LIST, KVM_GET_MSRS, KVM_GET_SREGS, KVM_GET_TSC_KHZ,
                      KVM_GET_XCRS, KVM_GET_XSAVE, KVM_KVMCLOCK_CTRL, KVM_SET_CLOCK, KVM_SET_CPUID2, KVM_SET_FPU, KVM_SET_IDENTITY_MAP_ADDR, KVM_SET_LAPIC, KVM_SET_SREGS,
                      KVM_SET_TSC_KHZ, KVM_SET_TSS_ADDR, KVM_SET_MSRS, KVM_SET_XCRS, KVM_SET_XSAVE, KVM_SET_GUEST_DEBUG, KVM_TRANSLATE },
        .rules = READ,
    },
    [CLOUD_HYPERVISOR_API] = {
        .calls = { SYS_accept4, SYS_brk, SYS_clock_gettime, SYS_close, SYS_dup, SYS_epoll_ctl, SYS_epoll_pwait, SYS_epoll_wait, SYS_exit, SYS_exit_group, SYS_fcntl, SYS_fstat,
                   SYS_futex, SYS_getpid, SYS_getrandom, SYS_gettid, SYS_madvise, SYS_mmap, SYS_mprotect, SYS_mremap, SYS_munmap, SYS_prctl, SYS_recvfrom, SYS_recvmsg,
                   SYS_rt_sigaction, SYS_rt_sigprocmask, SYS_sched_yield, SYS_sendmsg, SYS_sendto, SYS_sigaltstack, SYS_tgkill, SYS_tkill, SYS_write },
        .requests = { FIONBIO },
        .rules = READ,
    },
    [CLOUD_HYPERVISOR_VCPU] = {
        .calls = { SYS_brk, SYS_clock_gettime, SYS_clock_nanosleep, SYS_close, SYS_dup, SYS_epoll_ctl, SYS_exit, SYS_fallocate, SYS_fcntl, SYS_fstat, SYS_fsync, SYS_futex,
                   SYS_getcwd, SYS_getpid, SYS_getrandom, SYS_gettid, SYS_lseek, SYS_madvise, SYS_mmap, SYS_mprotect, SYS_mremap, SYS_munmap, SYS_nanosleep, SYS_newfstatat,
                   SYS_open, SYS_pread64, SYS_pwrite64, SYS_readlink, SYS_recvfrom, SYS_recvmsg, SYS_rt_sigaction, SYS_rt_sigprocmask, SYS_rt_sigreturn,
                   SYS_sched_yield, SYS_sendmsg, SYS_sendto, SYS_shutdown, SYS_sigaltstack, SYS_statx, SYS_tgkill, SYS_tkill, SYS_unlink, SYS_write, SYS_writev },
        .requests = { KVM_CHECK_EXTENSION, KVM_IOEVENTFD, KVM_IRQFD, KVM_SET_DEVICE_ATTR, KVM_SET_GSI_ROUTING, KVM_SET_USER_MEMORY_REGION, KVM_RUN, KVM_NMI,
                      KVM_GET_NESTED_STATE, KVM_SET_NESTED_STATE },
        .rules = READ,
    },
};

static __thread struct sock_filter program[MOST_INSTRUCTIONS];
static __thread size_t length;

static void add(uint16_t code, uint32_t value, uint8_t if_true, uint8_t if_false)
{
    if (length == MOST_INSTRUCTIONS)
        die("a filter is too long");
    program[length++] = (struct sock_filter){ code, if_true, if_false, value };
}

static void load(size_t offset)
{
    add(BPF_LD | BPF_W | BPF_ABS, (uint32_t)offset, 0, 0);
}

static void allow_if(uint32_t value)
{
    add(BPF_JMP | BPF_JEQ | BPF_K, value, 0, 1);
    add(BPF_RET | BPF_K, SECCOMP_RET_ALLOW, 0, 0);
}

// For one system call: allowed unless its third argument asks for execution.
static void allow_without_execution(uint32_t call)
{
    add(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 4);
    load(offsetof(struct seccomp_data, args[2]));
    add(BPF_JMP | BPF_JSET | BPF_K, PROT_EXEC, 1, 0);
    add(BPF_RET | BPF_K, SECCOMP_RET_ALLOW, 0, 0);
    add(BPF_RET | BPF_K, SECCOMP_RET_TRAP, 0, 0);
}

static void compile(const struct permissions *may)
{
    length = 0;
    load(offsetof(struct seccomp_data, arch));
    add(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0);
    add(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS, 0, 0);
    load(offsetof(struct seccomp_data, nr));
    if (may->rules & READ)
        allow_if(SYS_read);
    for (int i = 0; i < MOST && may->calls[i]; i++)
        allow_if((uint32_t)may->calls[i]);
    if (may->rules & MMAP_WITHOUT_EXECUTION)
        allow_without_execution(SYS_mmap);
    if (may->rules & MPROTECT_WITHOUT_EXECUTION)
        allow_without_execution(SYS_mprotect);
    add(BPF_JMP | BPF_JEQ | BPF_K, SYS_ioctl, 1, 0);
    add(BPF_RET | BPF_K, SECCOMP_RET_TRAP, 0, 0);
    load(offsetof(struct seccomp_data, args[1]));
    for (int i = 0; i < MOST && may->requests[i]; i++)
        allow_if(may->requests[i]);
    add(BPF_RET | BPF_K, SECCOMP_RET_TRAP, 0, 0);
}

void filter_thread(enum filter filter)
{
    compile(&all[filter]);
    const struct sock_fprog compiled = { (unsigned short)length, program };
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &compiled))
        die("seccomp");
}

static void take_sigsys(int signal, siginfo_t *info, void *context)
{
    char text[80];
    (void)signal;
    (void)context;
    int count = snprintf(text, sizeof text, "standin: system call %d is forbidden to this thread\n", info->si_syscall);
    if (write(2, text, (size_t)count) < 0)
        _exit(1);
    _exit(EXITS_BY_SIGSYS);
}

void end_by_sigsys(void)
{
    struct sigaction action = { .sa_sigaction = take_sigsys, .sa_flags = SA_SIGINFO };
    if (sigaction(SIGSYS, &action, NULL))
        die("sigaction");
}
