skip_without_python()

SHAPES <- list(1, 5, c(3, 5), c(2, 3, 5), c(1, 7, 1, 3), c(2, 3, 4, 5, 6), c(4, 1, 1), c(0, 3))

# Each way there is, whichever of them this reticulate takes by itself.
there <- list(chosen = as_numpy_array, bytes = function(x) numpy_by_bytes(x, "float32"))
back <- list(chosen = as_r_array, bytes = r_by_bytes)
if (knows_numpy()) there$ordinary <- function(x) reticulate::np_array(x, "float32", order = "C")

counting <- function(shape) if (length(shape) == 1) seq_len(shape) + 0 else array(seq_len(prod(shape)) + 0, shape)

for (shape in SHAPES) {
  for (way in names(there)) {
    test_that(sprintf("an array of %s goes to NumPy and back (%s)", paste(shape, collapse = " x "), way), {
      x <- counting(shape)
      y <- there[[way]](x)
      expect_equal(unlist(as_r(y$shape)), as.integer(shape))
      expect_equal(as_r(y$dtype$name), "float32")
      # In memory, NumPy's last index runs fastest.
      transposed <- if (length(shape) == 1) x else as.vector(aperm(x))
      bytes <- as_r(builtins()$bytearray(y$tobytes()))
      expect_identical(bytes, writeBin(transposed, raw(), size = 4, endian = "little"))
      if (prod(shape) > 0) {
        last <- as.list(as.integer(shape - 1))
        expect_equal(as_r(do.call(y$item, last)), prod(shape))
      }
      expect_identical(as_r_array(y), x)
    })
  }
}

test_that("what NumPy has in any order and type arrives", {
  np <- numpy()
  whole <- np$arange(60L)$reshape(3L, 4L, 5L)
  expected <- aperm(array(0:59 + 0, c(5, 4, 3)))
  strided <- whole$transpose(2L, 0L, 1L)
  for (way in names(back)) {
    of <- function(x) back[[way]](np$asarray(x, "float64"))
    expect_identical(of(whole), expected)
    expect_identical(of(np$asfortranarray(whole)), expected)
    expect_identical(of(strided), aperm(expected, c(3, 1, 2)))
  }
  for (type in c("uint8", "int64", "float16", "float32", ">f8")) {
    expect_identical(as_r_array(whole$astype(type)), expected)
  }
  expect_identical(as_r_array(np$array(list(TRUE, FALSE))), c(TRUE, FALSE))
  expect_identical(as_r_array(np$asarray(2.5)), 2.5)
  expect_identical(as_r_array(np$zeros(reticulate::tuple(2L, 0L))), matrix(0, 2, 0))
})

test_that("types that are asked for are given, or refused where they would lose something", {
  expect_equal(as_r(as_numpy_array(c(1, 2), "int32")$dtype$name), "int32")
  expect_equal(as_r(as_numpy_array(pi, "float64")$item()), pi)
  expect_equal(as_r_array(as_numpy_array(matrix(c(TRUE, FALSE, NA), 1))), matrix(c(1, 0, NaN), 1))
  expect_error(as_numpy_array(1.5, "int32"), "fractions", class = "convnext_argument_error")
  expect_error(as_numpy_array(NA_integer_, "int32"), "missing", class = "convnext_argument_error")
  expect_error(as_numpy_array("a"), "not character", class = "convnext_argument_error")
  expect_error(as_r_array(1), "not numeric", class = "convnext_argument_error")
})
