#' How good a model is
#'
#' Accuracy, calibration and confusion over labelled pictures, read as the authors read them, beside the published
#' number where there is one.
#'
#' @param model The name of a published checkpoint, `"bundled"`, or the path of a weights file.
#' @param data A folder or archive of pictures in class folders, or a flat one with `ground_truth` or WordNet ids in the
#'   names of the files.
#' @param engine,precision,calibration See [classifier()]. Not `"auto"` for the precision, which changes the numbers a
#'   little.
#' @param labels A file with the names of the model's classes, or `"folders"` for those of the data's folders, sorted.
#' @param layout What the data looks like: `"folder"`, `"zip"`, `"tar"`, `"imagenet-val"` (flat), or `"auto"`.
#' @param ground_truth A file that says what each picture shows.
#' @param subset Among which classes the model has to choose: `"model"`, `"data"`, or a file of classes.
#' @param limit How many pictures at most, spread evenly; `NULL` for all.
#' @param batch_size How many pictures are computed at once.
#' @param out A folder for `report.json`, `report.md` and, where matplotlib is installed, plots; `NULL` for none.
#' @return The report, a list that prints the main numbers. `results` has `pictures`, `top1` and `top5` (each `percent`
#'   with its 95 % interval from `low` to `high`), `log_loss` and `ece`, the calibration error; `per_class`,
#'   `confusions`, `calibration` and `bad_pictures` are data frames, in which classes count from 1. `report.json` in
#'   `out` is Python's, where they count from 0.
#' @examples
#' \dontrun{
#' evaluate("convnext_tiny.fb_in1k", "imagenet/val", limit = 1000)
#' }
#' @export
evaluate <- function(model,
                     data,
                     engine = "auto",
                     precision = "float32",
                     calibration = NULL,
                     labels = NULL,
                     layout = "auto",
                     ground_truth = NULL,
                     subset = "model",
                     limit = NULL,
                     batch_size = 32L,
                     out = NULL) {
  if (!is.character(model) || length(model) != 1 || !is.character(data) || length(data) != 1) {
    argument_error(
      paste(
        "`model` is a checkpoint's name or a weights file, and `data` a folder or an archive, not %s and %s. For a",
        "Keras model and arrays there is keras3::evaluate()."
      ),
      class(model)[1], class(data)[1]
    )
  }
  limit <- as_whole(limit, "limit")
  batch_size <- as_whole(batch_size, "batch_size")
  by_folders <- identical(labels, "folders")
  report <- from_python({
    load_torch_for(engine)
    room <- module("convnext.evaluate")
    if (!is.null(ground_truth)) {
      ground_truth <- module("convnext.data.ground_truth")$read_ground_truth(path_object(ground_truth))
    }
    subject <- room$open_subject(
      as_path(model),
      engine,
      labels = if (!by_folders) as_path(labels),
      precision = precision,
      calibration = as_path(calibration)
    )
    pictures <- room$open_dataset(
      as_path(data),
      subject$classes,
      layout = layout,
      ground_truth = ground_truth,
      sort_folders = by_folders,
      subset = as_path(subset),
      limit = limit
    )
    measured <- room$evaluate(subject$engine, subject$preprocess, pictures, batch_size)
    report <- room$build_report(subject, pictures, measured, batch_size)
    if (!is.null(out)) module("convnext.evaluate.output")$write_reports(report, as_path(out))
    as_r(report)
  })
  for (table in c("per_class", "confusions", "calibration", "bad_pictures")) {
    report[[table]] <- counted_from_1(as_data_frame(report[[table]]))
  }
  structure(report, class = "convnext_report")
}

path_object <- function(path) module("pathlib")$Path(as_path(path))

# Rows as named lists to a data frame; NULL becomes NA.
as_data_frame <- function(rows) {
  if (length(rows) == 0) return(data.frame())
  columns <- lapply(names(rows[[1]]), function(name) {
    unlist(lapply(rows, function(row) if (is.null(row[[name]])) NA else row[[name]]))
  })
  names(columns) <- names(rows[[1]])
  as.data.frame(columns, optional = TRUE)
}

counted_from_1 <- function(table) {
  for (column in intersect(names(table), c("index", "label", "prediction"))) table[[column]] <- table[[column]] + 1L
  table
}

#' @export
print.convnext_report <- function(x, ...) {
  results <- x$results
  cat(sprintf(
    "%s: %d pictures of %d classes, among %d\n",
    x$model$name, results$pictures, x$data$classes, x$data$competing_classes
  ))
  for (name in c("top1", "top5")) {
    share <- results[[name]]
    if (is.null(share)) next
    published <- x$published[[name]]
    cat(sprintf(
      "  %s   %.2f %% (95 %% interval %.2f to %.2f)%s\n", name, share$percent, share$low, share$high,
      if (is.null(published)) "" else sprintf(", published %.2f %%", published)
    ))
  }
  for (name in c("log_loss", "ece")) if (!is.null(results[[name]])) cat(sprintf("  %s   %.4f\n", name, results[[name]]))
  for (note in x$notes) cat("Note: ", note, "\n", sep = "")
  bad <- nrow(x$bad_pictures)
  if (bad > 0) cat(bad, "pictures could not be read; they are in $bad_pictures\n")
  invisible(x)
}
