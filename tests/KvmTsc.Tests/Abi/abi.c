/* Prints what the system's headers make of everything that src/KvmTsc/Interop takes from them. */

#define _GNU_SOURCE
#include <asm/kvm_para.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <linux/kvm.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timex.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>

#define CONSTANT(ours, theirs) printf("%s %llu\n", #ours, (unsigned long long)(theirs))
#define REQUEST(name) printf("%s %llu\n", #name, (unsigned long long)(unsigned int)(name))
#define STRUCT(ours, theirs) printf("sizeof(%s) %zu\n", #ours, sizeof(theirs))
#define FIELD(ours, name, theirs, field) \
    printf("offsetof(%s.%s) %zu\nsizeof(%s.%s) %zu\n", #ours, #name, offsetof(theirs, field), #ours, #name, sizeof(((theirs *)0)->field))

static void requests(void)
{
    REQUEST(KVM_GET_API_VERSION);
    REQUEST(KVM_CREATE_VM);
    REQUEST(KVM_CHECK_EXTENSION);
    REQUEST(KVM_GET_VCPU_MMAP_SIZE);
    REQUEST(KVM_CREATE_VCPU);
    REQUEST(KVM_SET_USER_MEMORY_REGION);
    REQUEST(KVM_SET_TSS_ADDR);
    REQUEST(KVM_SET_IDENTITY_MAP_ADDR);
    REQUEST(KVM_SET_CLOCK);
    REQUEST(KVM_GET_CLOCK);
    REQUEST(KVM_RUN);
    REQUEST(KVM_SET_REGS);
    REQUEST(KVM_GET_SREGS);
    REQUEST(KVM_SET_SREGS);
    REQUEST(KVM_SET_TSC_KHZ);
    REQUEST(KVM_GET_MSRS);
    REQUEST(KVM_SET_MSRS);
    REQUEST(KVM_GET_TSC_KHZ);
    REQUEST(KVM_KVMCLOCK_CTRL);
    REQUEST(KVM_SET_DEVICE_ATTR);
    REQUEST(KVM_GET_DEVICE_ATTR);
    REQUEST(KVM_HAS_DEVICE_ATTR);
}

static void constants(void)
{
    CONSTANT(KvmRequest.Kvm, KVMIO);
    CONSTANT(Ioctl.None, _IOC_NONE);
    CONSTANT(Ioctl.Write, _IOC_WRITE);
    CONSTANT(Ioctl.Read, _IOC_READ);

    CONSTANT(KvmCapability.MaxVcpus, KVM_CAP_MAX_VCPUS);
    CONSTANT(KvmCapability.AdjustClock, KVM_CAP_ADJUST_CLOCK);
    CONSTANT(KvmCapability.TscControl, KVM_CAP_TSC_CONTROL);
    CONSTANT(KvmCapability.GetTscKHz, KVM_CAP_GET_TSC_KHZ);
    CONSTANT(KvmCapability.KvmclockCtrl, KVM_CAP_KVMCLOCK_CTRL);
    CONSTANT(KvmCapability.VcpuAttributes, KVM_CAP_VCPU_ATTRIBUTES);
    CONSTANT(KvmCapability.VMTscControl, KVM_CAP_VM_TSC_CONTROL);

    CONSTANT(KvmDeviceAttr.VcpuTscControl, KVM_VCPU_TSC_CTRL);
    CONSTANT(KvmDeviceAttr.VcpuTscOffset, KVM_VCPU_TSC_OFFSET);
    CONSTANT(KvmExit.ReasonOffset, offsetof(struct kvm_run, exit_reason));
    CONSTANT(KvmExit.Hlt, KVM_EXIT_HLT);

    CONSTANT(KvmClockFlags.None, 0);
    CONSTANT(KvmClockFlags.TscStable, KVM_CLOCK_TSC_STABLE);
    CONSTANT(KvmClockFlags.Realtime, KVM_CLOCK_REALTIME);
    CONSTANT(KvmClockFlags.HostTsc, KVM_CLOCK_HOST_TSC);
    CONSTANT(KvmClockData.Triple, KVM_CLOCK_REALTIME | KVM_CLOCK_HOST_TSC);
    CONSTANT(ClockIoctls.FlagsOffset, offsetof(struct kvm_clock_data, flags));
    CONSTANT(ClockIoctls.RealtimeOffset, offsetof(struct kvm_clock_data, realtime));
    CONSTANT(ClockIoctls.MsrDataOffset, sizeof(struct kvm_msrs) + offsetof(struct kvm_msr_entry, data));
    CONSTANT(ClockIoctls.HostTscOffset, offsetof(struct kvm_clock_data, host_tsc));
    CONSTANT(ClockIoctls.AddressOffset, offsetof(struct kvm_device_attr, addr));

    CONSTANT(Timex.Unsynchronized, STA_UNSYNC);
    CONSTANT(Timex.IsInNanoseconds, STA_NANO);
    CONSTANT(KvmMsr.Tsc, 0x10); /* MSR_IA32_TSC, asm/msr-index.h: not exported */
    CONSTANT(KvmMsr.TscDeadline, 0x6E0); /* MSR_IA32_TSC_DEADLINE, the same */
    CONSTANT(KvmMsr.KvmSystemTime, MSR_KVM_SYSTEM_TIME);
    CONSTANT(KvmMsr.KvmSystemTimeNew, MSR_KVM_SYSTEM_TIME_NEW);
    CONSTANT(KvmMsr.HyperVReferenceTsc, 0x40000021); /* HV_X64_MSR_REFERENCE_TSC, asm/hyperv-tlfs.h: not exported */

    CONSTANT(LibC.PROT_READ, PROT_READ);
    CONSTANT(LibC.PROT_WRITE, PROT_WRITE);
    CONSTANT(LibC.PROT_EXEC, PROT_EXEC);
    CONSTANT(LibC.MAP_SHARED, MAP_SHARED);
    CONSTANT(LibC.MAP_PRIVATE, MAP_PRIVATE);
    CONSTANT(LibC.MAP_ANONYMOUS, MAP_ANONYMOUS);
    CONSTANT(LibC.O_RDWR, O_RDWR);
    CONSTANT(LibC.O_CLOEXEC, O_CLOEXEC);
    CONSTANT(LibC.SCHED_FIFO, SCHED_FIFO);
    CONSTANT(LibC.SCHED_RESET_ON_FORK, SCHED_RESET_ON_FORK);
    CONSTANT(LibC.O_DIRECTORY, O_DIRECTORY);
    CONSTANT(LibC.AT_FDCWD, AT_FDCWD);
    CONSTANT(LibC.AT_SYMLINK_NOFOLLOW, AT_SYMLINK_NOFOLLOW);
    CONSTANT(LibC.RENAME_NOREPLACE, RENAME_NOREPLACE);
    CONSTANT(Statx.BasicStats, STATX_BASIC_STATS);
    CONSTANT(Statx.TypeMask, S_IFMT);
    CONSTANT(Statx.RegularFile, S_IFREG);
    CONSTANT(LibC.SYS_getdents64, SYS_getdents64);
    CONSTANT(LibC.SYS_kcmp, SYS_kcmp);
    CONSTANT(LibC.SYS_pidfd_open, SYS_pidfd_open);
    CONSTANT(LibC.POLLIN, POLLIN);
    CONSTANT(LibC.EFD_CLOEXEC, EFD_CLOEXEC);
    CONSTANT(LibC.O_NONBLOCK, O_NONBLOCK);
    CONSTANT(LibC.SYS_timer_create, SYS_timer_create);
    CONSTANT(LibC.SYS_timer_settime, SYS_timer_settime);
    CONSTANT(LibC.SYS_timer_delete, SYS_timer_delete);
    CONSTANT(LibC.CLOCK_REALTIME, CLOCK_REALTIME);
    CONSTANT(LibC.CLOCK_MONOTONIC, CLOCK_MONOTONIC);
    CONSTANT(LibC.CLOCK_MONOTONIC_RAW, CLOCK_MONOTONIC_RAW);
    CONSTANT(LibC.CLOCK_BOOTTIME, CLOCK_BOOTTIME);
    CONSTANT(LibC.KCMP_FILE, KCMP_FILE);
    CONSTANT(LibC.WNOHANG, WNOHANG);
    CONSTANT(LibC.WSTOPPED, WSTOPPED);
    CONSTANT(LibC.WEXITED, WEXITED);
    CONSTANT(LibC.WNOWAIT, WNOWAIT);
    CONSTANT(LibC.P_PID, P_PID);
    CONSTANT(LibC.SignalInfoSize, sizeof(siginfo_t));
    CONSTANT(LibC.SignalCodeOffset, offsetof(siginfo_t, si_code));
    CONSTANT(LibC.ProcessIdOffset, offsetof(siginfo_t, si_pid));
    CONSTANT(LibC.CLD_DUMPED, CLD_DUMPED);
    CONSTANT(LibC.WALL, __WALL);
    CONSTANT(LibC.SIGCHLD, SIGCHLD);
    CONSTANT(LibC.SA_NOCLDSTOP, SA_NOCLDSTOP);
    CONSTANT(LibC.SigactionSize, sizeof(struct sigaction));
    CONSTANT(LibC.SigactionFlagsOffset, offsetof(struct sigaction, sa_flags));
    CONSTANT(LibC.NT_X86_XSTATE, NT_X86_XSTATE);

    CONSTANT(LibC.PTRACE_POKEDATA, PTRACE_POKEDATA);
    CONSTANT(LibC.PTRACE_CONT, PTRACE_CONT);
    CONSTANT(LibC.PTRACE_GETREGS, PTRACE_GETREGS);
    CONSTANT(LibC.PTRACE_SETREGS, PTRACE_SETREGS);
    CONSTANT(LibC.PTRACE_DETACH, PTRACE_DETACH);
    CONSTANT(LibC.PTRACE_SYSCALL, PTRACE_SYSCALL);
    CONSTANT(LibC.PTRACE_SETOPTIONS, PTRACE_SETOPTIONS);
    CONSTANT(LibC.PTRACE_GETREGSET, PTRACE_GETREGSET);
    CONSTANT(LibC.PTRACE_GETEVENTMSG, PTRACE_GETEVENTMSG);
    CONSTANT(LibC.PTRACE_GETSIGINFO, PTRACE_GETSIGINFO);
    CONSTANT(LibC.PTRACE_SEIZE, PTRACE_SEIZE);
    CONSTANT(LibC.PTRACE_INTERRUPT, PTRACE_INTERRUPT);
    CONSTANT(LibC.PTRACE_LISTEN, PTRACE_LISTEN);
    CONSTANT(LibC.PTRACE_GETSIGMASK, PTRACE_GETSIGMASK);
    CONSTANT(LibC.PTRACE_SETSIGMASK, PTRACE_SETSIGMASK);
    CONSTANT(LibC.PTRACE_SECCOMP_GET_FILTER, PTRACE_SECCOMP_GET_FILTER);
    CONSTANT(LibC.PTRACE_GET_RSEQ_CONFIGURATION, PTRACE_GET_RSEQ_CONFIGURATION);
    CONSTANT(LibC.PTRACE_O_TRACESYSGOOD, PTRACE_O_TRACESYSGOOD);
    CONSTANT(LibC.PTRACE_O_TRACECLONE, PTRACE_O_TRACECLONE);
    CONSTANT(LibC.PTRACE_O_SUSPEND_SECCOMP, PTRACE_O_SUSPEND_SECCOMP);
    CONSTANT(LibC.PTRACE_EVENT_CLONE, PTRACE_EVENT_CLONE);
    CONSTANT(LibC.PTRACE_EVENT_STOP, PTRACE_EVENT_STOP);
}

static void errors(void)
{
    CONSTANT(Errno.EPERM, EPERM);
    CONSTANT(Errno.ENOENT, ENOENT);
    CONSTANT(Errno.ESRCH, ESRCH);
    CONSTANT(Errno.EINTR, EINTR);
    CONSTANT(Errno.EIO, EIO);
    CONSTANT(Errno.ENXIO, ENXIO);
    CONSTANT(Errno.EBADF, EBADF);
    CONSTANT(Errno.ECHILD, ECHILD);
    CONSTANT(Errno.ENOMEM, ENOMEM);
    CONSTANT(Errno.EACCES, EACCES);
    CONSTANT(Errno.EEXIST, EEXIST);
    CONSTANT(Errno.ENODEV, ENODEV);
    CONSTANT(Errno.ENOTDIR, ENOTDIR);
    CONSTANT(Errno.EINVAL, EINVAL);
    CONSTANT(Errno.ENOTTY, ENOTTY);
    CONSTANT(Errno.EMFILE, EMFILE);

    /* These are the kernel's own (include/linux/errno.h) and in no header of the system's. */
    CONSTANT(Errno.ERESTARTSYS, 512);
    CONSTANT(Errno.ERESTARTNOINTR, 513);
    CONSTANT(Errno.ERESTARTNOHAND, 514);
    CONSTANT(Errno.ERESTART_RESTARTBLOCK, 516);

    /* __USER_CS, arch/x86/include/asm/segment.h: not exported either, but it is what this very program runs with. */
    unsigned short cs;
    __asm__("mov %%cs, %0" : "=r"(cs));
    CONSTANT(UserRegs.Code64, cs);
}

/* What is passed to KVM_GET_MSRS for one MSR. */
struct one_msr {
    struct kvm_msrs header;
    struct kvm_msr_entry entry;
};

static void clock_structures(void)
{
    STRUCT(KvmClockData, struct kvm_clock_data);
    FIELD(KvmClockData, Clock, struct kvm_clock_data, clock);
    FIELD(KvmClockData, Flags, struct kvm_clock_data, flags);
    FIELD(KvmClockData, Realtime, struct kvm_clock_data, realtime);
    FIELD(KvmClockData, HostTsc, struct kvm_clock_data, host_tsc);

    STRUCT(KvmDeviceAttr, struct kvm_device_attr);
    FIELD(KvmDeviceAttr, Flags, struct kvm_device_attr, flags);
    FIELD(KvmDeviceAttr, Group, struct kvm_device_attr, group);
    FIELD(KvmDeviceAttr, Attribute, struct kvm_device_attr, attr);
    FIELD(KvmDeviceAttr, Address, struct kvm_device_attr, addr);

    STRUCT(KvmMsr, struct one_msr);
    FIELD(KvmMsr, Count, struct one_msr, header.nmsrs);
    FIELD(KvmMsr, Padding, struct one_msr, header.pad);
    FIELD(KvmMsr, Index, struct one_msr, entry.index);
    FIELD(KvmMsr, Reserved, struct one_msr, entry.reserved);
    FIELD(KvmMsr, Data, struct one_msr, entry.data);
    STRUCT(KvmMsr.Header, struct kvm_msrs);
    FIELD(KvmMsr.Header, Count, struct kvm_msrs, nmsrs);
    FIELD(KvmMsr.Header, Padding, struct kvm_msrs, pad);

    STRUCT(Statx, struct statx);
    FIELD(Statx, Mode, struct statx, stx_mode);
    FIELD(Statx, Size, struct statx, stx_size);
    STRUCT(Timex, struct timex);
    FIELD(Timex, Modes, struct timex, modes);
    FIELD(Timex, Offset, struct timex, offset);
    FIELD(Timex, Frequency, struct timex, freq);
    FIELD(Timex, MaxError, struct timex, maxerror);
    FIELD(Timex, EstimatedError, struct timex, esterror);
    FIELD(Timex, Status, struct timex, status);
    FIELD(Timex, Tick, struct timex, tick);
    FIELD(Timex, Tai, struct timex, tai);
}

static void guest_structures(void)
{
    STRUCT(KvmUserspaceMemoryRegion, struct kvm_userspace_memory_region);
    FIELD(KvmUserspaceMemoryRegion, Slot, struct kvm_userspace_memory_region, slot);
    FIELD(KvmUserspaceMemoryRegion, Flags, struct kvm_userspace_memory_region, flags);
    FIELD(KvmUserspaceMemoryRegion, GuestPhysicalAddress, struct kvm_userspace_memory_region, guest_phys_addr);
    FIELD(KvmUserspaceMemoryRegion, MemorySize, struct kvm_userspace_memory_region, memory_size);
    FIELD(KvmUserspaceMemoryRegion, UserspaceAddress, struct kvm_userspace_memory_region, userspace_addr);

    STRUCT(KvmSegment, struct kvm_segment);
    FIELD(KvmSegment, Base, struct kvm_segment, base);
    FIELD(KvmSegment, Limit, struct kvm_segment, limit);
    FIELD(KvmSegment, Selector, struct kvm_segment, selector);
    FIELD(KvmSegment, Type, struct kvm_segment, type);
    FIELD(KvmSegment, Present, struct kvm_segment, present);
    FIELD(KvmSegment, Dpl, struct kvm_segment, dpl);
    FIELD(KvmSegment, Db, struct kvm_segment, db);
    FIELD(KvmSegment, S, struct kvm_segment, s);
    FIELD(KvmSegment, L, struct kvm_segment, l);
    FIELD(KvmSegment, G, struct kvm_segment, g);
    FIELD(KvmSegment, Avl, struct kvm_segment, avl);
    FIELD(KvmSegment, Unusable, struct kvm_segment, unusable);
    FIELD(KvmSegment, Padding, struct kvm_segment, padding);

    STRUCT(LibC.SignalEvent, struct sigevent);
    FIELD(LibC.SignalEvent, Value, struct sigevent, sigev_value);
    FIELD(LibC.SignalEvent, Signal, struct sigevent, sigev_signo);
    FIELD(LibC.SignalEvent, Notify, struct sigevent, sigev_notify);

    STRUCT(LibC.PollDescriptor, struct pollfd);
    FIELD(LibC.PollDescriptor, Descriptor, struct pollfd, fd);
    FIELD(LibC.PollDescriptor, Events, struct pollfd, events);
    FIELD(LibC.PollDescriptor, Returned, struct pollfd, revents);

    STRUCT(LibC.IoVector, struct iovec);
    FIELD(LibC.IoVector, Base, struct iovec, iov_base);
    FIELD(LibC.IoVector, Length, struct iovec, iov_len);

    STRUCT(KvmSregs, struct kvm_sregs);
    FIELD(KvmSregs, Cs, struct kvm_sregs, cs);
    FIELD(KvmSregs, Ds, struct kvm_sregs, ds);
    FIELD(KvmSregs, Es, struct kvm_sregs, es);
    FIELD(KvmSregs, Fs, struct kvm_sregs, fs);
    FIELD(KvmSregs, Gs, struct kvm_sregs, gs);
    FIELD(KvmSregs, Ss, struct kvm_sregs, ss);
    FIELD(KvmSregs, Tr, struct kvm_sregs, tr);
    FIELD(KvmSregs, Ldt, struct kvm_sregs, ldt);
    printf("offsetof(KvmSregs.Rest) %zu\nsizeof(KvmSregs.Rest) %zu\n",
        offsetof(struct kvm_sregs, gdt), sizeof(struct kvm_sregs) - offsetof(struct kvm_sregs, gdt));

#define REGISTER(name, field) FIELD(KvmRegs, name, struct kvm_regs, field)
    STRUCT(KvmRegs, struct kvm_regs);
    REGISTER(Rax, rax);
    REGISTER(Rbx, rbx);
    REGISTER(Rcx, rcx);
    REGISTER(Rdx, rdx);
    REGISTER(Rsi, rsi);
    REGISTER(Rdi, rdi);
    REGISTER(Rsp, rsp);
    REGISTER(Rbp, rbp);
    REGISTER(R8, r8);
    REGISTER(R9, r9);
    REGISTER(R10, r10);
    REGISTER(R11, r11);
    REGISTER(R12, r12);
    REGISTER(R13, r13);
    REGISTER(R14, r14);
    REGISTER(R15, r15);
    REGISTER(Rip, rip);
    REGISTER(Rflags, rflags);
#undef REGISTER
}

static void thread_structures(void)
{
#define REGISTER(name, field) FIELD(UserRegs, name, struct user_regs_struct, field)
    STRUCT(UserRegs, struct user_regs_struct);
    REGISTER(R15, r15);
    REGISTER(R14, r14);
    REGISTER(R13, r13);
    REGISTER(R12, r12);
    REGISTER(Rbp, rbp);
    REGISTER(Rbx, rbx);
    REGISTER(R11, r11);
    REGISTER(R10, r10);
    REGISTER(R9, r9);
    REGISTER(R8, r8);
    REGISTER(Rax, rax);
    REGISTER(Rcx, rcx);
    REGISTER(Rdx, rdx);
    REGISTER(Rsi, rsi);
    REGISTER(Rdi, rdi);
    REGISTER(OrigRax, orig_rax);
    REGISTER(Rip, rip);
    REGISTER(Cs, cs);
    REGISTER(Eflags, eflags);
    REGISTER(Rsp, rsp);
    REGISTER(Ss, ss);
    REGISTER(FsBase, fs_base);
    REGISTER(GsBase, gs_base);
    REGISTER(Ds, ds);
    REGISTER(Es, es);
    REGISTER(Fs, fs);
    REGISTER(Gs, gs);
#undef REGISTER
}

int main(void)
{
    requests();
    constants();
    errors();
    clock_structures();
    guest_structures();
    thread_structures();
    return 0;
}
