"""Read and write weights files of every format, as lazy named tensors.

`open_weights` recognises a file by its content; a tensor is read on its first use, and no pickle is
ever run. `write_weights` writes tensor by tensor. Files are not trusted: each is read correctly or
refused with a `WeightsFileError`.

    tensors          LazyTensor and WeightsFile
    open, write      open_weights and write_weights
    pth, pickles     torch's files, and their pickles as inert data
    safetensors_file, npz, hdf5, saved_model    one format each
    hdf5_survey      a program that lists the tensors of HDF5 files
    zips, shards     archives and folders of several files
"""

from convnext.weights.files.open import open_weights
from convnext.weights.files.tensors import LazyTensor, WeightsFile
from convnext.weights.files.write import write_weights

__all__ = ["LazyTensor", "WeightsFile", "open_weights", "write_weights"]
