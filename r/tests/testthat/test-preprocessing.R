skip_without_python()

test_that("pictures are prepared as Keras does it", {
  keras <- reticulate::import("keras.applications.imagenet_utils", convert = FALSE)
  for (mode in c("torch", "tf", "caffe")) {
    for (shape in list(c(4, 5, 3), c(2, 4, 5, 3), c(3, 4, 5), c(2, 3, 4, 5))) {
      format <- if (shape[length(shape)] == 3) "channels_last" else "channels_first"
      x <- random_pixels(shape)
      expected <- as_r_array(keras$preprocess_input(as_numpy_array(x), data_format = format, mode = mode))
      expect_equal(imagenet_preprocess_input(x, format, mode), expected, tolerance = 1e-5)
    }
  }
  by_default <- imagenet_preprocess_input(x, "channels_first")
  expect_identical(by_default, imagenet_preprocess_input(x, "channels_first", "torch"))
  expect_error(imagenet_preprocess_input(x), "3 channels", class = "convnext_argument_error")
  expect_error(imagenet_preprocess_input(1:3), "not integer", class = "convnext_argument_error")
})

test_that("a model gets what it was made for", {
  x <- random_pixels(1, 32, 32, 3)
  within <- create_convnext_v2("atto", 10, c(32, 32, 3), weights = "bundled", include_preprocessing = TRUE)
  without <- create_convnext_v2("atto", 10, c(32, 32, 3), weights = "bundled")
  expect_identical(application_preprocess_inputs(within, x), x)
  prepared <- application_preprocess_inputs(without, x)
  expect_equal(predict(without, prepared), predict(within, x), tolerance = 1e-4)
  expect_error(application_preprocess_inputs(1, x), "application_", class = "convnext_argument_error")
})

test_that("predictions are named as Python names them", {
  model <- small_model()
  preds <- matrix(random_pixels(3000), 3)
  decoded <- application_decode_predictions(model, preds, top = 4)
  python <- reticulate::import("convnext.applications")$decode_predictions(as_numpy_array(preds), 4L)
  expect_length(decoded, 3)
  for (row in 1:3) {
    expect_named(decoded[[row]], c("class_name", "class_description", "score"))
    expect_identical(decoded[[row]]$class_name, vapply(python[[row]], function(one) one[[1]], ""))
    expect_identical(decoded[[row]]$class_description, vapply(python[[row]], function(one) one[[2]], ""))
    expect_equal(decoded[[row]]$score, sort(preds[row, ], decreasing = TRUE)[1:4], tolerance = 1e-6)
  }
  expect_equal(nrow(application_decode_predictions(model, preds)[[1]]), 5)
  expect_error(application_decode_predictions(model, preds[, 1:10]), "shape (pictures, 1000), not (3, 10)",
    fixed = TRUE, class = "convnext_argument_error"
  )
  expect_error(application_decode_predictions(1, preds), "application_", class = "convnext_argument_error")
})

test_that("keras3 finds both functions where it looks for them", {
  model <- small_model()
  expect_identical(attr(model, "preprocess_input")(1, data_format = NULL), 1)
  expect_length(attr(model, "decode_predictions")(matrix(0, 2, 1000), top = 1L), 2)
})
