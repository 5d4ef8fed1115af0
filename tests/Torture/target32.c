// A 32-bit process with a VM, for which no 32-bit libc is needed: cc -m32 -O2 -nostdlib -static -ffreestanding target32.c
// It says "ready", waits for its standard input to end, and exits with 0 if reading never failed meanwhile.
// The 32-bit headers may not be there either, hence the numbers.
enum { KVM_CREATE_VM = 0xAE01, KVM_CREATE_VCPU = 0xAE41 };
enum { sys_exit = 1, sys_read = 3, sys_write = 4, sys_open = 5, sys_ioctl = 54, read_write = 2 };

static long call(long number, long a, long b, long c)
{
    long result;
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(number), "b"(a), "c"(b), "d"(c) : "memory");
    return result;
}

void _start(void)
{
    static const char device[] = "/dev/kvm", ready[] = "ready\n";
    char byte;
    long kvm = call(sys_open, (long)device, read_write, 0);
    long vm = call(sys_ioctl, kvm, KVM_CREATE_VM, 0);
    long vcpu = call(sys_ioctl, vm, KVM_CREATE_VCPU, 0);
    long status = kvm < 0 || vm < 0 || vcpu < 0;
    if (!status)
        call(sys_write, 1, (long)ready, sizeof ready - 1);
    while (!status) {
        long count = call(sys_read, 0, (long)&byte, 1);
        if (count == 0)
            break;
        status = count < 0;
    }
    for (;;)
        call(sys_exit, status, 0, 0);
}
