skip_without_python()

APPLICATIONS <- c(
  convnext_tiny = "ConvNeXtTiny", convnext_small = "ConvNeXtSmall", convnext_base = "ConvNeXtBase",
  convnext_large = "ConvNeXtLarge", convnext_xlarge = "ConvNeXtXLarge",
  convnextv2_atto = "ConvNeXtV2Atto", convnextv2_femto = "ConvNeXtV2Femto", convnextv2_pico = "ConvNeXtV2Pico",
  convnextv2_nano = "ConvNeXtV2Nano", convnextv2_tiny = "ConvNeXtV2Tiny", convnextv2_small = "ConvNeXtV2Small",
  convnextv2_base = "ConvNeXtV2Base", convnextv2_large = "ConvNeXtV2Large", convnextv2_huge = "ConvNeXtV2Huge"
)

application_of <- function(name) {
  getExportedValue("convnext", paste0("application_", sub("convnextv2", "convnext_v2", name)))
}

test_that("arguments and defaults are those of keras3", {
  expect_identical(as.list(formals(application_convnext_small)), list(
    include_top = TRUE,
    include_preprocessing = TRUE,
    weights = "imagenet",
    input_tensor = NULL,
    input_shape = NULL,
    pooling = NULL,
    classes = 1000L,
    classifier_activation = "softmax",
    name = "convnext_small"
  ))
})

# The first model of all tests: it has PyTorch loaded as users have it.
test_that("a published size has the published number of parameters", {
  model <- application_convnext_tiny(weights = NULL)
  expect_equal(model$count_params(), 28589128)
  expect_equal(model$name, "convnext_tiny")
})

test_that("each function is the Python function of its size, argument for argument", {
  signature <- reticulate::import("inspect")$signature
  python <- reticulate::import("convnext.applications")
  for (name in names(APPLICATIONS)) {
    build <- application_of(name)
    expect_identical(environment(build)$python_name, APPLICATIONS[[name]])
    parameters <- signature(do.call(`$`, list(python, APPLICATIONS[[name]])))$parameters
    arguments <- reticulate::import_builtins()$list(parameters)
    expect_identical(names(formals(build)), arguments)
    for (argument in arguments) {
      expect_identical(formals(build)[[argument]], parameters$get(argument)$default, label = paste(name, argument))
    }
  }
})

test_that("R's numbers, NA and NULL mean what they should", {
  model <- application_convnext_v2_atto(
    include_top = FALSE, weights = NULL, input_shape = c(NA, NA, 3), pooling = "avg", name = "mine"
  )
  expect_equal(model$name, "mine")
  expect_equal(model$input_shape, list(NULL, NULL, NULL, 3L))
  expect_equal(dim(predict(model, random_pixels(2, 32, 45, 3))), c(2, 320))
  same <- application_convnext_v2_atto(include_top = FALSE, weights = NULL, input_shape = list(NULL, NULL, 3L))
  expect_equal(same$input_shape, list(NULL, NULL, NULL, 3L))
  expect_equal(dim(predict(same, random_pixels(1, 64, 96, 3))), c(1, 2, 3, 320))
  logits <- application_convnext_v2_atto(
    weights = NULL, classes = 4, classifier_activation = NULL, input_shape = c(32, 32, 3)
  )
  expect_equal(logits$output_shape, list(NULL, 4L))
  expect_true(abs(sum(predict(logits, random_pixels(1, 32, 32, 3))) - 1) > 1e-3)
})

test_that("a model is put on a tensor", {
  tensor <- reticulate::import("keras")$Input(reticulate::tuple(32L, 64L, 3L))
  model <- application_convnext_v2_atto(weights = NULL, include_top = FALSE, input_tensor = tensor)
  expect_equal(model$output_shape, list(NULL, 1L, 2L, 320L))
})

refused <- function(message, ..., class = "convnext_argument_error", build = application_convnext_tiny) {
  problem <- expect_error(build(...), message, fixed = TRUE, class = class)
  expect_s3_class(problem, "convnext_error")
  expect_no_match(conditionMessage(problem), "Traceback|File \"|py_last_error")
  expect_identical(as.character(conditionCall(problem)[[1]]), "build")
}

expect_no_match <- function(text, pattern) expect_false(grepl(pattern, text), label = text)

test_that("every documented error is a condition with its message", {
  refused("weights='nope' is neither None, 'imagenet', nor an existing path", weights = "nope")
  refused("has 1000 classes, not classes=10", classes = 10)
  refused("Only None and 'softmax' are allowed as classifier_activation", classifier_activation = "sigmoid")
  refused("input_shape must be a tuple of three integers", weights = NULL, input_shape = c(64, 64))
  refused("takes pictures with 3 channels, not input_shape=(224, 224, 1)", input_shape = c(224, 224, 1))
  refused("takes 224x224 pictures, not input_shape=(64, 64, 3)", input_shape = c(64, 64, 3))
  refused("Input size must be at least 32x32, not input_shape=(31, 64, 3)", weights = NULL, input_shape = c(31, 64, 3))
  refused("needs a static input_shape, not (None, None, 3)", weights = NULL, input_shape = c(NA, NA, 3))
  refused("input_tensor must be a Keras tensor",
    weights = NULL, input_tensor = as_numpy_array(random_pixels(1, 32, 32, 3)),
    class = "convnext_argument_type_error"
  )
  grey <- reticulate::import("keras")$Input(reticulate::tuple(224L, 224L, 1L))
  refused("takes pictures with 3 channels; input_tensor has 1", input_tensor = grey)
  refused("Could not get the weights convnext_tiny", class = "convnext_weights_unavailable_error")
  refused("`include_top` is TRUE or FALSE, not NA", include_top = NA)
  refused("`include_preprocessing` is TRUE or FALSE, not 1", include_preprocessing = 1)
  refused("`classes` is one whole number, not 2.5", weights = NULL, classes = 2.5)
  refused("`input_shape` has whole numbers and NA, not c(32.5, 32, 3)", weights = NULL, input_shape = c(32.5, 32, 3))
})

test_that("weights that do not fit, or are none, are refused", {
  file <- tempfile(fileext = ".safetensors")
  reticulate::import("convnext")$save_weights(small_model(), file)
  refused("", weights = file, input_shape = c(32, 32, 3), classes = 6, class = "convnext_weights_mismatch_error",
    build = application_convnext_v2_atto
  )
  writeLines("nothing", file)
  refused("", weights = file, class = "convnext_weights_file_error")
})

test_that("what Python raises otherwise is a condition without a traceback", {
  problem <- expect_error(small_model(pooling = "avg", name = "a/b/\u00e9"), class = "error")
  expect_no_match(conditionMessage(problem), "Traceback|File \"|py_last_error")
})
