skip_without_python()

test_that("a labelled folder gives a report", {
  folder <- tempfile()
  files <- c(pictures(3, folder = file.path(folder, "cat")), pictures(2, folder = file.path(folder, "ship")))
  dir.create(file.path(folder, "dog"))
  file.copy(photograph(), file.path(folder, "cat"))
  writeLines("no picture", file.path(folder, "dog", "broken.png"))
  out <- tempfile()
  report <- evaluate("bundled", folder, out = out)
  answers <- suppressWarnings(classify(folder, classifier("bundled", precision = "float32"), top = 1))
  right <- sum(basename(dirname(answers$picture)) == answers$label, na.rm = TRUE)
  expect_gte(right, 1)
  expect_identical(report$results$pictures, 6L)
  expect_identical(report$results$top1$count, right)
  expect_equal(report$bad_pictures$id, "dog/broken.png")
  cats <- report$per_class[report$per_class$name == "cat", ]
  expect_identical(c(cats$index, cats$pictures), c(4L, 4L))
  expect_true(file.exists(file.path(out, "report.json")))
  printed <- capture.output(print(report))
  expect_match(printed, "bundled: 6 pictures of 3 classes, among 10", all = FALSE)
  expect_match(printed, sprintf("top1   %.2f %%", 100 * right / 6), all = FALSE)
})

test_that("what cannot be evaluated is refused", {
  expect_error(evaluate("bundled", "nowhere"), "nowhere", class = "convnext_argument_error")
  expect_error(evaluate(small_model(), 3), "keras3::evaluate", class = "convnext_argument_error")
  expect_error(evaluate("bundled", tempdir(), limit = 1.5), "`limit`", class = "convnext_argument_error")
})
