"""The images that are run: the operator's, and the worker's with a stand-in for the science."""

from __future__ import annotations

from dataclasses import dataclass

from testcluster import images
from testcluster.cluster import Cluster
from testcluster.images import REPOSITORY, Image
from testcluster.progress import Progress, to_stderr

STANDIN = REPOSITORY / "tests" / "standin"
STANDIN_TAG = "localhost/computepool/worker-standin:dev"


@dataclass(frozen=True)
class Images:
    """What a cluster is given."""

    operator: Image
    worker: Image

    def load_into(self, cluster: Cluster) -> None:
        """Give the nodes of a cluster both images."""
        for image in (self.operator, self.worker):
            cluster.load_image(image.archive)


def build(engine: str = "buildah", progress: Progress = to_stderr) -> Images:
    """Build both, or take them from the cache when nothing has changed."""
    worker = images.worker(engine, progress)
    standin = images.build(
        STANDIN / "Dockerfile",
        STANDIN_TAG,
        build_args={"WORKER": worker.tag},
        context=STANDIN,
        engine=engine,
        progress=progress,
    )
    return Images(operator=images.operator(engine, progress), worker=standin)
