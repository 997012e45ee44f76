skip_without_python()

test_that("pictures go in and a row for each comes out", {
  answer <- predict(small_model(), random_pixels(3, 32, 32, 3), batch_size = 2)
  expect_equal(dim(answer), c(3, 5))
  expect_equal(rowSums(answer), rep(1, 3), tolerance = 1e-5)
})

test_that("pictures that do not fit are refused", {
  model <- small_model()
  refused <- function(x, message) expect_error(predict(model, x), message, class = "convnext_argument_error")
  refused(random_pixels(1, 16, 32, 3), "any x 32 x 32 x 3, not 1 x 16 x 32 x 3")
  refused(random_pixels(32, 32, 3), "not 32 x 32 x 3")
  refused(1:3, "not integer")
  refused(array("a", c(1, 32, 32, 3)), "array of numbers")
  refused(array(NA_real_, c(1, 32, 32, 3)), "missing values")
  x <- random_pixels(1, 32, 32, 3)
  expect_error(predict(model, x, batch_size = 1.5), "batch_size", class = "convnext_argument_error")
})

test_that("a model is summarised", {
  printed <- capture.output(same <- summary(small_model(), expand_nested = TRUE))
  expect_match(printed, "stage_3_block_1", all = FALSE)
  expect_s3_class(same, "keras.src.models.model.Model")
})

test_that("a model learns, and is saved and read, by the methods of Python", {
  model <- create_convnext_v2("atto", 2, c(16, 16, 3))
  x <- random_pixels(8, 16, 16, 3) / 255
  y <- as_numpy_array(rep(0:1, 4), "int32")
  model$compile(optimizer = "adamw", loss = "sparse_categorical_crossentropy")
  before <- predict(model, x)
  history <- model$fit(as_numpy_array(x), y, epochs = 1L, verbose = 0L)
  expect_length(history$history$loss, 1)
  expect_false(isTRUE(all.equal(predict(model, x), before)))
  file <- tempfile(fileext = ".keras")
  model$save(file)
  expect_s3_class(reticulate::import("keras")$saving$load_model(file), "keras.src.models.model.Model")
})

# With R's reference BLAS, it takes seven times as long as NumPy, which has its own.
test_that("PyTorch multiplies with a BLAS of its own", {
  skip_on_os(c("mac", "windows"))
  skip_if_not(Sys.getenv("KERAS_BACKEND") == "torch")
  reticulate::py_run_string(paste(
    "import time, numpy, torch",
    "def shortest(matrix):",
    "    times = []",
    "    for _ in range(5):",
    "        began = time.perf_counter()",
    "        matrix @ matrix",
    "        times.append(time.perf_counter() - began)",
    "    return min(times)",
    "matrix = numpy.ones((768, 768), 'float32')",
    "ratio = shortest(torch.from_numpy(matrix)) / shortest(matrix)",
    sep = "\n"
  ))
  expect_lt(reticulate::py$ratio, 3)
})

# A stand-in with the same names: keras3 itself is not in Debian.
test_that("where keras3 is loaded, its methods are called", {
  source <- file.path(tempfile(), "keras3")
  dir.create(file.path(source, "R"), recursive = TRUE)
  write <- function(file, ...) writeLines(c(...), file.path(source, file))
  generics <- c("predict", "summary")
  write("DESCRIPTION", "Package: keras3", "Version: 1.5.1", "Title: Stand-In", "License: none")
  write("NAMESPACE", sprintf("S3method(%s, keras.src.models.model.Model)", generics))
  write("R/methods.R", sprintf("%s.keras.src.models.model.Model <- function(...) '%s of keras3'", generics, generics))
  library <- tempfile()
  dir.create(library)
  install.packages(source, library, repos = NULL, type = "source", quiet = TRUE)
  model <- small_model()
  loadNamespace("keras3", lib.loc = library)
  on.exit(unloadNamespace("keras3"))
  expect_identical(predict(model, random_pixels(1, 32, 32, 3)), "predict of keras3")
  expect_identical(summary(model), "summary of keras3")
})
