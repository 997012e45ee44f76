# `make test-r` sets NOT_CRAN: there, a Python that lacks something is a failure.
skip_without_python <- function() {
  if (!identical(Sys.getenv("NOT_CRAN"), "true")) {
    testthat::skip_if_not(python_has("convnext", "keras", "openvino"), "Python has what is needed")
  }
}

photograph <- function() system.file("extdata", "chelsea.jpg", package = "convnext")

# Pictures of clouds, `width` x `height` each, as PNG files.
pictures <- function(count, width = 48L, height = 40L, folder = tempfile()) {
  dir.create(folder, showWarnings = FALSE, recursive = TRUE)
  generated <- reticulate::import("convnext.images.generated", convert = FALSE)$generated_pictures
  image <- reticulate::import("PIL.Image", convert = FALSE)
  clouds <- generated(as.integer(count), as.integer(max(width, height)))
  vapply(seq_len(count), function(number) {
    path <- file.path(folder, sprintf("cloud%d.png", number))
    cropped <- image$fromarray(reticulate::py_get_item(clouds, number - 1L))$crop(c(0L, 0L, width, height))
    cropped$save(path)
    path
  }, "")
}

small_model <- function(...) application_convnext_v2_atto(weights = NULL, classes = 5L, input_shape = c(32, 32, 3), ...)

random_pixels <- function(...) {
  shape <- c(...)
  set.seed(7)
  array(runif(prod(shape), 0, 255), shape)
}

# What R prints in a process of its own, where Python has not been started.
fresh_r <- function(code, environment = character()) {
  libraries <- paste(.libPaths(), collapse = .Platform$path.sep)
  rscript <- file.path(R.home("bin"), "Rscript")
  file <- tempfile(fileext = ".R")
  writeLines(code, file)
  suppressWarnings(
    system2(rscript, file, stdout = TRUE, stderr = TRUE, env = c(paste0("R_LIBS=", libraries), environment))
  )
}
