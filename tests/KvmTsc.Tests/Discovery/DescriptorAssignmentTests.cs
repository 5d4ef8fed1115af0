using KvmTsc.Discovery;

namespace KvmTsc.Tests.Discovery;

/// <summary>Which vCPU descriptors belong to which VM. A VM is written as its descriptor, a vCPU as its descriptor and id.</summary>
public sealed class DescriptorAssignmentTests
{
    [Fact]
    public void One_VM_has_all_vCPUs_whatever_their_descriptors()
    {
        var assignment = Assign([VM(9)], [Vcpu(7, 0), Vcpu(10, 1), Vcpu(8, 5)]);
        Assert.Equal([(0, 7), (1, 10), (5, 8)], VcpusOf(assignment, 9));
        Assert.False(assignment.IsDoubtful(9));
    }

    [Fact]
    public void A_VM_without_vCPUs_has_none()
    {
        var assignment = Assign([VM(9), VM(12)], []);
        Assert.Empty(assignment.VcpusOf(9));
        Assert.False(assignment.IsDoubtful(9));
        Assert.False(assignment.IsDoubtful(12));
    }

    [Fact]
    public void VMs_created_one_after_the_other_are_told_apart_by_the_order_alone()
    {
        var assignment = Assign([VM(9), VM(12)], [Vcpu(10, 0), Vcpu(11, 1), Vcpu(13, 0), Vcpu(14, 1)]);
        Assert.Equal([(0, 10), (1, 11)], VcpusOf(assignment, 9));
        Assert.Equal([(0, 13), (1, 14)], VcpusOf(assignment, 12));
        Assert.False(assignment.IsDoubtful(9));
        Assert.False(assignment.IsDoubtful(12));
    }

    [Fact]
    public void A_vCPU_that_either_VM_can_have_is_neithers()
    {
        var assignment = Assign([VM(9), VM(12)], [Vcpu(10, 0), Vcpu(13, 0), Vcpu(14, 1)]);
        Assert.Equal([(0, 10)], VcpusOf(assignment, 9));
        Assert.Equal([(0, 13)], VcpusOf(assignment, 12));
        Assert.True(assignment.IsDoubtful(9));
        Assert.True(assignment.IsDoubtful(12));
    }

    [Fact]
    public void Debugfs_decides_whose_id_it_is()
    {
        var assignment = Assign([VM(9, 0), VM(12, 0, 1)], [Vcpu(10, 0), Vcpu(13, 0), Vcpu(14, 1)]);
        Assert.Equal([(0, 10)], VcpusOf(assignment, 9));
        Assert.Equal([(0, 13), (1, 14)], VcpusOf(assignment, 12));
        Assert.False(assignment.IsDoubtful(9));
        Assert.False(assignment.IsDoubtful(12));
    }

    [Fact]
    public void VMs_created_before_any_of_their_vCPUs_are_not_guessed_apart()
    {
        var assignment = Assign([VM(9, 0), VM(10, 0)], [Vcpu(11, 0), Vcpu(12, 0)]);
        Assert.True(assignment.IsDoubtful(9));
        Assert.True(assignment.IsDoubtful(10));
        Assert.Empty(assignment.VcpusOf(9));
    }

    [Fact]
    public void One_proven_vCPU_leaves_the_other_VM_its_own()
    {
        var assignment = Assign([VM(9, 0), VM(10, 0)], [Vcpu(11, 0), Vcpu(12, 0)], (12, 9));
        Assert.Equal([(0, 12)], VcpusOf(assignment, 9));
        Assert.Equal([(0, 11)], VcpusOf(assignment, 10));
        Assert.False(assignment.IsDoubtful(9));
        Assert.False(assignment.IsDoubtful(10));
    }

    [Fact]
    public void Doubt_about_some_VMs_is_not_doubt_about_others()
    {
        var assignment = Assign([VM(5, 0), VM(9, 0), VM(10, 0)], [Vcpu(6, 0), Vcpu(11, 0), Vcpu(12, 0)]);
        Assert.Equal([(0, 6)], VcpusOf(assignment, 5));
        Assert.False(assignment.IsDoubtful(5));
        Assert.True(assignment.IsDoubtful(9));
        Assert.True(assignment.IsDoubtful(10));
    }

    [Fact]
    public void A_descriptor_out_of_order_puts_every_VM_in_doubt()
    {
        var assignment = Assign([VM(9, 0), VM(12, 0)], [Vcpu(5, 0), Vcpu(10, 0)]);
        Assert.True(assignment.IsDoubtful(9));
        Assert.True(assignment.IsDoubtful(12));
    }

    [Fact]
    public void A_vCPU_that_debugfs_shows_and_no_descriptor_does_puts_its_VM_in_doubt()
    {
        var assignment = Assign([VM(9, 0, 1)], [Vcpu(10, 0)]);
        Assert.Equal([(0, 10)], VcpusOf(assignment, 9));
        Assert.True(assignment.IsDoubtful(9));
    }

    [Fact]
    public void Two_vCPUs_of_one_id_cannot_be_of_one_VM()
    {
        var assignment = Assign([VM(9)], [Vcpu(10, 0), Vcpu(11, 0)]);
        Assert.True(assignment.IsDoubtful(9));
    }

    private static DescriptorAssignment Assign(
        (int Descriptor, int[]? Known)[] vms, KvmDescriptor[] vcpus, params (int Vcpu, int VM)[] proven) => new(
        vms.ToDictionary(vm => vm.Descriptor, vm => (IReadOnlyList<int>?)vm.Known), vcpus, proven.ToDictionary(pair => pair.Vcpu, pair => pair.VM));

    private static IEnumerable<(int, int)> VcpusOf(DescriptorAssignment assignment, int vm) =>
        assignment.VcpusOf(vm).OrderBy(vcpu => vcpu.Key).Select(vcpu => (vcpu.Key, vcpu.Value));

    private static (int Descriptor, int[]? Known) VM(int descriptor, params int[] known) => (descriptor, known.Length > 0 ? known : null);

    private static KvmDescriptor Vcpu(int descriptor, int id) => new(descriptor, id);
}
