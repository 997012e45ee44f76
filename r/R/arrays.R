#' Arrays to Python and back
#'
#' R keeps the first index of an array together in memory and NumPy the last; what is at `x[i, j]` is at
#' `x[i - 1, j - 1]` there. A reticulate that is older than NumPy 2.0, such as 1.28, cannot convert arrays of it; these
#' functions can with every version. The functions of this package convert by themselves: you need these two to call
#' methods of Python objects, such as a model's `fit`.
#'
#' @param x For `as_numpy_array()`, an array, matrix or vector of numbers or truth values; for `as_r_array()`, a
#'   NumPy array of such.
#' @param dtype What NumPy is to keep the numbers as.
#' @return `as_numpy_array()`: a NumPy array of the same shape. `as_r_array()`: an array or, for one dimension or
#'   none, a vector, of doubles or, where NumPy has truth values, of these.
#' @examplesIf python_has("convnext")
#' x <- array(1:24, c(2, 3, 4))
#' y <- as_numpy_array(x)
#' y
#' identical(as_r_array(y), x + 0)
#' @export
as_numpy_array <- function(x, dtype = c("float32", "float64", "int32")) {
  dtype <- match.arg(dtype)
  if (!is.numeric(x) && !is.logical(x)) argument_error("`x` is an array of numbers, not %s.", class(x)[1])
  if (dtype == "int32" && (anyNA(x) || any(x != round(x)))) {
    argument_error("`x` has fractions or missing values, which int32 has no numbers for.")
  }
  storage.mode(x) <- "double"
  if (anyNA(x)) x[is.na(x)] <- NaN # NA is one that NumPy warns of
  from_python(if (knows_numpy()) reticulate::np_array(x, dtype, order = "C") else numpy_by_bytes(x, dtype))
}

#' @rdname as_numpy_array
#' @export
as_r_array <- function(x) {
  if (!inherits(x, "numpy.ndarray")) {
    argument_error("`x` is a NumPy array, not %s.", class(x)[1])
  }
  from_python({
    kind <- as_r(numpy()$asarray(x)$dtype$kind)
    x <- numpy()$asarray(x, "float64")
    values <- if (knows_numpy()) as_r(x) else r_by_bytes(x)
    if (length(dim(values)) < 2) values <- as.vector(values)
    if (kind == "b") values != 0 else values
  })
}

numpy <- function() module("numpy")

knows_numpy <- function() reticulate::py_numpy_available()

# The numbers as bytes, in R's order, which NumPy calls "F".
numpy_by_bytes <- function(x, dtype) {
  bytes <- reticulate::r_to_py(writeBin(as.vector(x), raw(), endian = "little"))
  shape <- if (is.null(dim(x))) length(x) else dim(x)
  shape <- reticulate::tuple(as.list(shape))
  numpy()$frombuffer(bytes, "<f8")$reshape(shape, order = "F")$astype(dtype, order = "C")
}

r_by_bytes <- function(x) {
  shape <- as.integer(unlist(as_r(x$shape)))
  bytes <- as_r(builtins()$bytearray(x$astype("<f8")$tobytes(order = "F")))
  values <- readBin(bytes, "double", length(bytes) / 8, endian = "little")
  if (length(shape) == 0) values else array(values, shape)
}
