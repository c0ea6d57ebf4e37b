"""A real Kubernetes for the demo and the tests: one fixture, three ways to a cluster.

A given kubeconfig, a kind cluster, or a control plane built from Go modules and started as
processes, with (given root) a real kubelet and containerd in namespaces of their own.
"""
