skip_without_python()

test_that("arguments are those of Python, and so are their defaults", {
  signature <- reticulate::import("inspect")$signature
  python <- reticulate::import("convnext")
  for (name in c("create_convnext_v1", "create_convnext_v2")) {
    build <- getExportedValue("convnext", name)
    parameters <- signature(do.call(`$`, list(python, name)))$parameters
    arguments <- reticulate::import_builtins()$list(parameters)
    expect_identical(names(formals(build)), arguments)
    for (argument in setdiff(arguments, "variant")) {
      expect_equal(eval(formals(build)[[argument]])[1], parameters$get(argument)$default, label = paste(name, argument))
    }
  }
})

test_that("small pictures have a model", {
  model <- create_convnext_v1("atto", 3, c(8, 12, 3))
  expect_equal(rowSums(predict(model, random_pixels(2, 8, 12, 3) / 255)), c(1, 1), tolerance = 1e-5)
})

test_that("the bundled model comes by its name, and with another head", {
  model <- create_convnext_v2("atto", 10, c(32, 32, 3), weights = "bundled", include_preprocessing = TRUE)
  answer <- predict(model, read_pictures(photograph(), size = 32))
  expect_equal(which.max(answer), 4) # a cat
  other <- create_convnext_v2("atto", 3, c(32, 32, 3), weights = "bundled", head = "new")
  expect_equal(other$output_shape, list(NULL, 3L))
})

test_that("errors are conditions", {
  expect_error(create_convnext_v1("tinny"), "Did you mean 'tiny'", class = "convnext_unknown_name_error")
  expect_error(create_convnext_v1("huge"), class = "convnext_argument_error")
  expect_error(create_convnext_v2("atto", pooling = "sum"), "avgmax", class = "convnext_unknown_name_error")
  expect_error(create_convnext_v2("atto", drop_path_rate = 1), "below 1", class = "convnext_argument_error")
  expect_error(create_convnext_v2("atto", 0), "at least 1", class = "convnext_argument_error")
  expect_error(create_convnext_v2("atto", "ten"), "whole number", class = "convnext_argument_type_error")
  expect_error(create_convnext_v2("atto", input_shape = c(4, 4, 3)), "too small", class = "convnext_argument_error")
  expect_error(create_convnext_v2("atto", classifier_activation = "nope"), "Unknown classifier_activation",
    class = "convnext_argument_error"
  )
  expect_error(create_convnext_v2("atto", weights = "nope"), "neither a file", class = "convnext_argument_error")
  expect_error(create_convnext_v2("atto", head = "old"), "should be one of")
  expect_error(create_convnext_v2(), "\"variant\" is missing")
})
