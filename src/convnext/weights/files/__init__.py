"""Weight files as lazy named tensors: every format read and written, no architecture known.

`open_weights` recognises a file by its content and gives its tensors; nothing is read until a
tensor is asked for, and no pickle is ever run. `write_weights` writes tensor by tensor. Files are
taken as hostile: each is read correctly or refused with a `WeightsFileError`.

    tensors          LazyTensor, WeightsFile: what the rest of the package sees
    open, write      the two doors
    pth, pickles     torch's files, and their pickles as inert data
    safetensors_file, npz, hdf5, saved_model    one format each
    hdf5_survey      the part that runs in a process of its own
    zips, shards     archives and folders of several files
"""

from convnext.weights.files.open import open_weights
from convnext.weights.files.tensors import LazyTensor, WeightsFile
from convnext.weights.files.write import write_weights

__all__ = ["LazyTensor", "WeightsFile", "open_weights", "write_weights"]
