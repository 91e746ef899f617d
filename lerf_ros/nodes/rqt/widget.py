# SPDX-License-Identifier: Apache-2.0
"""The panel on the screen: it shows what QueryPanel keeps, and hands on what is typed."""

from __future__ import annotations

from collections.abc import Callable

from lerf_ros.nodes.rqt.panel import COLUMNS, QueryPanel, Row
from lerf_ros.nodes.rqt.qt import QtCore, QtWidgets

ERROR_STYLE = 'color: #b3261e;'
Qt, QMessageBox = QtCore.Qt, QtWidgets.QMessageBox
READ_ONLY = QtWidgets.QAbstractItemView.EditTrigger.NoEditTriggers
WHOLE_ROWS = QtWidgets.QAbstractItemView.SelectionBehavior.SelectRows
ONE_ROW = QtWidgets.QAbstractItemView.SelectionMode.SingleSelection


class PanelWidget(QtWidgets.QWidget):
    """Shows a panel. Answers come from other threads: signals bring them to that of Qt."""

    changed = QtCore.Signal()

    def __init__(self, panel: QueryPanel) -> None:
        super().__init__()
        self.setObjectName('LerfPanel')
        self.setWindowTitle('lerf_ros')
        self.panel, self._confirming = panel, False
        self.reconnect: Callable[[str], None] = lambda namespace: None
        self._build()
        self.changed.connect(self.refresh)
        panel.changed = self.changed.emit
        self.refresh()

    def _build(self) -> None:
        rows = QtWidgets.QVBoxLayout(self)
        rows.addLayout(self._question())
        rows.addLayout(self._options())
        self.message = QtWidgets.QLabel()
        self.message.setWordWrap(True)
        self.message.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        rows.addWidget(self.message)
        self.table = self._table()
        rows.addWidget(self.table, 1)
        self.detail = QtWidgets.QLabel()
        self.detail.setWordWrap(True)
        rows.addWidget(self.detail)
        rows.addLayout(self._commands())

    def _question(self) -> QtWidgets.QLayout:
        line = QtWidgets.QHBoxLayout()
        self.phrase = QtWidgets.QComboBox()         # with the phrases that were asked before
        self.phrase.setEditable(True)
        self.phrase.setInsertPolicy(QtWidgets.QComboBox.InsertPolicy.NoInsert)
        typed = QtWidgets.QLineEdit()
        typed.setPlaceholderText('red mug; teapot')
        typed.returnPressed.connect(self.ask)
        self.phrase.setLineEdit(typed)
        self.phrase.activated.connect(self.ask)
        line.addWidget(self.phrase, 1)
        self.ask_button = button('Ask', self.ask, line)
        return line

    def _options(self) -> QtWidgets.QLayout:
        line = QtWidgets.QHBoxLayout()
        self.negatives = QtWidgets.QLineEdit()
        self.negatives.setPlaceholderText('object; things; stuff; texture')
        self.negatives.setToolTip('Phrases that it must win against, with ; between them')
        self.threshold = QtWidgets.QDoubleSpinBox()
        self.threshold.setRange(0.0, 1.0)
        self.threshold.setSingleStep(0.01)
        self.threshold.setSpecialValueText('usual')     # 0 asks for that of the node
        self.threshold.setToolTip('Relevancy that counts as found')
        self.namespace = QtWidgets.QLineEdit()
        self.namespace.setPlaceholderText('/')
        self.namespace.setMaximumWidth(110)
        self.namespace.editingFinished.connect(
            lambda: self.reconnect(self.namespace.text()))
        for words, widget, stretch in (('Negatives', self.negatives, 1),
                                       ('Threshold', self.threshold, 0),
                                       ('Namespace', self.namespace, 0)):
            line.addWidget(QtWidgets.QLabel(words))
            line.addWidget(widget, stretch)
        return line

    def _table(self) -> QtWidgets.QTableWidget:
        table = QtWidgets.QTableWidget(0, len(COLUMNS))
        table.setHorizontalHeaderLabels(COLUMNS)
        table.horizontalHeader().setSectionResizeMode(
            QtWidgets.QHeaderView.ResizeMode.ResizeToContents)
        table.horizontalHeader().setHighlightSections(False)
        table.horizontalHeader().setStretchLastSection(True)
        table.verticalHeader().setVisible(False)
        table.setEditTriggers(READ_ONLY)
        table.setSelectionBehavior(WHOLE_ROWS)
        table.setSelectionMode(ONE_ROW)
        table.itemSelectionChanged.connect(self._chosen)
        return table

    def _commands(self) -> QtWidgets.QLayout:
        line = QtWidgets.QHBoxLayout()
        self.next_button = button('Next hit', self.panel.next_hit, line)
        line.addStretch(1)
        self.save_button = button('Save map …', self.save, line)
        self.reset_button = button('Reset map …', self.panel.reset, line)
        return line

    def ask(self, *_: object) -> None:
        """Asks for what is typed."""
        self.panel.ask(self.phrase.currentText(), self.negatives.text(), self.threshold.value())

    def save(self) -> None:
        """Asks for a name and saves the map."""
        name, given = self.ask_name()
        if given:
            self.panel.save(name)

    def ask_name(self) -> tuple[str, bool]:
        """Returns what a person types, and whether it counts."""
        return QtWidgets.QInputDialog.getText(self, 'Save map', 'Name of the map:')

    def confirm(self, question: str) -> bool:
        """Returns whether a person says yes."""
        return bool(QMessageBox.question(self, 'lerf_ros', question)
                    == QMessageBox.StandardButton.Yes)

    def restore(self, namespace: object, history: object) -> None:
        """Takes namespace and history over from an earlier start, whatever they are."""
        self.namespace.setText(namespace if isinstance(namespace, str) else '')
        self.reconnect(self.namespace.text())
        # A list of one is read back as a text.
        phrases = (history,) if isinstance(history, str) else history or ()
        self.panel.remember(phrase for phrase in phrases        # type: ignore[attr-defined]
                            if isinstance(phrase, str))

    def refresh(self) -> None:
        """Shows the view of the panel."""
        view = self.panel.view
        self.message.setText(view.message)
        self.message.setStyleSheet(ERROR_STYLE if view.failed else '')
        self.ask_button.setEnabled(not view.busy)
        self.next_button.setEnabled(sum(row.is_hit for row in view.rows) > 1)
        self._show_history(view.history)
        self.table.blockSignals(True)       # what is chosen is the panel's to say
        self._show_rows(view.rows)
        if 0 <= view.chosen < len(view.rows):
            self.table.selectRow(view.chosen)
            self.detail.setText(view.rows[view.chosen].detail)
        else:
            self.table.clearSelection()
            self.detail.setText('')
        self.table.blockSignals(False)
        if view.question and not self._confirming:
            self._confirming = True         # the dialog shows further changes meanwhile
            yes = self.confirm(view.question)
            self._confirming = False
            self.panel.reply(yes)

    def _show_history(self, history: tuple[str, ...]) -> None:
        if history != tuple(self.phrase.itemText(k) for k in range(self.phrase.count())):
            typed = self.phrase.currentText()
            self.phrase.clear()
            self.phrase.addItems(history)
            self.phrase.setEditText(typed)

    def _show_rows(self, rows: tuple[Row, ...]) -> None:
        self.table.setRowCount(len(rows))
        for number, row in enumerate(rows):
            for column, text in enumerate(row[:len(COLUMNS)]):
                self.table.setItem(number, column, QtWidgets.QTableWidgetItem(text))

    def _chosen(self) -> None:
        self.panel.choose(self.table.currentRow())


def button(words: str, work: Callable[[], None],
           line: QtWidgets.QBoxLayout) -> QtWidgets.QPushButton:
    """Returns a button at the end of a line of widgets."""
    made = QtWidgets.QPushButton(words)
    made.setAutoDefault(False)
    made.clicked.connect(lambda *_: work())
    line.addWidget(made)
    return made
